"""Every live sequence of this worker, and what owners say about them. No I/O: the engine calls it between two steps."""

import logging
from collections import OrderedDict
from collections.abc import Iterable
from typing import Literal

from gpu_worker.guidance.guide import SequenceGuide
from gpu_worker.outbox import Outbox, Stream
from gpu_worker.scheduling.policy import Policy
from gpu_worker.sequence import Sequence
from gpu_worker.served_model import ServedModel
from gpu_worker.traces import Traces
from shared.errors import ErrorCode
from shared.fair_line import OUTPUT_WEIGHT
from shared.ids import Incarnation, ModelName, OwnerId, RequestId
from shared.log import about
from shared.messages import (
    Assign,
    Cancel,
    Ended,
    PromptLogprobs,
    Resend,
    SequenceTokens,
    Submit,
    TokenLogprobs,
)

log = logging.getLogger(__name__)

_MAX_TOMBSTONES = 4096
_MAX_OWNERS = 1024
_MAX_MISSED_BEATS = 5

Reason = Literal["stop", "length", "cancelled", "error"]


class Roster:
    """Each assigned sequence ends exactly once, and its owner hears why unless the owner is gone."""

    def __init__(self, outbox: Outbox, policy: Policy, max_sequences: int, traces: Traces | None = None) -> None:
        self.outbox = outbox
        self.traces = traces or Traces()
        self._policy = policy
        self.models: dict[ModelName, ServedModel] = {}
        self.last_router: Incarnation | None = None
        self.last_assignment = 0
        self._max_sequences = max_sequences
        self._sequences: dict[RequestId, Sequence] = {}
        self._model_of: dict[RequestId, ServedModel] = {}
        self._unguided: list[Sequence] = []  # that came since somebody took them
        self._tombstones: OrderedDict[RequestId, int] = OrderedDict()  # cancelled before assigned -> attempt
        self._missed_beats: OrderedDict[OwnerId, int] = OrderedDict()  # who was heard last is last

    def __len__(self) -> int:
        return len(self._sequences)

    def get(self, request_id: RequestId) -> Sequence | None:
        return self._sequences.get(request_id)

    def has_work(self, name: ModelName) -> bool:
        model = self.models.get(name)
        return model is not None and bool(model.running or model.waiting)

    def keeps_weights(self, name: ModelName) -> bool:
        """It has work, or it is pinned: KV does not get their memory."""
        return self.has_work(name) or (name in self.models and self.models[name].is_pinned)

    # --- what arrives ---------------------------------------------------------------------------

    def assign(self, message: Assign, now_s: float) -> None:
        submit = message.submit
        self.last_router, self.last_assignment = message.router, message.number
        self.see_owner(submit.owner)
        previous = self._sequences.get(submit.request_id)
        if previous is not None:
            if previous.attempt >= submit.attempt:
                return
            self._drop(previous, "begun anew")  # a newer attempt: its owner drops what the older one says
        elif self.outbox.resend_ended(_rest_of(submit)):
            return  # a router that was restarted assigned it again
        if self._tombstones.get(submit.request_id, -1) >= submit.attempt:
            self._refuse(submit, Ended("cancelled"))
            return
        model = self.models.get(submit.model)
        if ended := self._ends_at_once(submit, model):
            self._refuse(submit, ended)
            return
        assert model is not None
        sequence = Sequence(submit, now_s, model.content_id)
        if submit.traceparent:
            sequence.trace = self.traces.begin(submit)
        self._sequences[submit.request_id] = sequence
        self._model_of[submit.request_id] = model
        if submit.sampling.grammar:
            model.unguided.add(sequence)
            self._unguided.append(sequence)
        else:
            self._line_up(sequence, model, now_s)

    def cancel(self, message: Cancel, now_s: float) -> None:
        sequence = self._sequences.get(message.request_id)
        if sequence is None or sequence.attempt < message.attempt:
            self._tombstones[message.request_id] = message.attempt
            while len(self._tombstones) > _MAX_TOMBSTONES:
                self._tombstones.popitem(last=False)
        if sequence is not None and sequence.owner == message.owner and sequence.attempt <= message.attempt:
            self.end(sequence, "cancelled", now_s)

    def resend(self, message: Resend) -> None:
        """The stream again from `first`; an owner that asks for what is not here hears that it is lost."""
        sequence = self._sequences.get(message.request_id)
        if sequence is not None and sequence.owner == message.owner and sequence.attempt == message.attempt:
            asked = message.first, message.first_prompt_logprob
            self.outbox.add(message.owner, _stream(sequence).since(*asked, sequence.num_cached_tokens))
        elif not self.outbox.resend_ended(message):
            lost = Ended("error", ErrorCode.INTERNAL, "the worker does not know this request")
            entry = SequenceTokens(message.request_id, message.attempt, message.first, (), lost)
            self.outbox.add(message.owner, entry)

    def see_owner(self, owner: OwnerId) -> None:
        self._missed_beats[owner] = 0
        self._missed_beats.move_to_end(owner)
        if len(self._missed_beats) > _MAX_OWNERS:
            self._drop_owner(next(iter(self._missed_beats)))

    def count_missed_beats(self) -> None:
        """Once a beat, while connected: frees the sequences of owners that missed too many in a row.

        Counted, not timed: a worker that stood still, or was cut off, must not blame its owners.
        """
        for owner in self._missed_beats:
            self._missed_beats[owner] += 1
        for owner in [o for o, num_missed in self._missed_beats.items() if num_missed > _MAX_MISSED_BEATS]:
            self._drop_owner(owner)

    def _drop_owner(self, owner: OwnerId) -> None:
        del self._missed_beats[owner]
        sequences = [s for s in self._sequences.values() if s.owner == owner]
        if sequences:
            log.warning("owner %s is gone: freeing its %d sequences", owner, len(sequences))
        for sequence in sequences:
            self._drop(sequence, "owner lost")
        self.outbox.forget_owner(owner)

    # --- what the engine decides ----------------------------------------------------------------

    def take_unguided(self) -> list[tuple[Sequence, ServedModel]]:
        """Those that came with a grammar since the last call: each is in no line until `guide`."""
        came, self._unguided = self._unguided, []
        live = (sequence for sequence in came if self._sequences.get(sequence.request_id) is sequence)
        return [(sequence, self._model_of[sequence.request_id]) for sequence in live]

    def guide(self, sequence: Sequence, guide: SequenceGuide, now_s: float) -> None:
        sequence.guide = guide
        if guide.failure or guide.is_complete or guide.is_lost:  # an earlier attempt got that far
            self._end_guided(sequence, guide, now_s)
            return
        model = self._model_of[sequence.request_id]
        model.unguided.remove(sequence)
        self._line_up(sequence, model, now_s)

    def score(self, sequence: Sequence, logprobs: tuple[TokenLogprobs, ...]) -> None:
        """The next tokens of its prompt have been scored."""
        said = PromptLogprobs(len(sequence.prompt_logprobs), logprobs)
        sequence.prompt_logprobs += logprobs
        first = sequence.num_output_tokens
        entry = SequenceTokens(sequence.request_id, sequence.attempt, first, (), prompt_logprobs=said)
        self.outbox.add(sequence.owner, entry)

    def advance(self, sequence: Sequence, token_id: int, now_s: float, logprobs: TokenLogprobs | None = None) -> None:
        """A sequence got its next token, and may end with it."""
        sampling, guide = sequence.sampling, sequence.guide
        is_stop = sequence.is_stop(token_id)
        if guide is not None and not guide.accept(token_id, is_stop=is_stop):
            self._end_guided(sequence, guide, now_s)
            return
        sequence.append(token_id, logprobs)
        self._model_of[sequence.request_id].waiting.charge(sequence.tenant, OUTPUT_WEIGHT)
        num_cached: int | None = None
        if sequence.first_token_at_s is None:
            sequence.first_token_at_s = now_s
            num_cached = sequence.num_cached_tokens  # a stop string may end it before its end says so
        if is_stop or (guide is not None and guide.is_complete):
            self.end(sequence, "stop", now_s, num_new=1)
        elif (
            sequence.num_output_tokens >= sampling.max_tokens
            or sequence.num_tokens >= self._model_of[sequence.request_id].max_sequence_tokens
        ):
            self.end(sequence, "length", now_s, num_new=1)
        else:
            first = sequence.num_output_tokens - 1
            new = tuple(sequence.logprobs[first:])
            entry = SequenceTokens(sequence.request_id, sequence.attempt, first, (token_id,), None, num_cached, new)
            self.outbox.add(sequence.owner, entry)

    def end(
        self,
        sequence: Sequence,
        reason: Reason,
        now_s: float,
        *,
        num_new: int = 0,
        code: ErrorCode | None = None,
        message: str = "",
    ) -> None:
        self._remove(sequence)
        ended = sequence.ended(reason, now_s, code=code, message=message)
        if sequence.trace is not None:
            self.traces.ended(sequence, ended, now_s)
        if code is ErrorCode.INTERNAL:
            with about(sequence.request_id):
                log.warning("the sequence failed: %s", message)
        self.outbox.end(_stream(sequence, ended), num_new)

    def fail(self, sequences: Iterable[Sequence], now_s: float, message: str) -> None:
        for sequence in sequences:
            if self._sequences.get(sequence.request_id) is sequence:
                self.end(sequence, "error", now_s, code=ErrorCode.INTERNAL, message=message)

    def _line_up(self, sequence: Sequence, model: ServedModel, now_s: float) -> None:
        model.waiting.add(sequence)
        self._policy.enter(model.name, sequence, now_s)

    def _end_guided(self, sequence: Sequence, guide: SequenceGuide, now_s: float) -> None:
        """No further token can come."""
        if guide.is_lost:  # its owner tries again
            self.end(sequence, "cancelled", now_s)
        elif guide.failure:
            message = f"the output can't follow its grammar: {guide.failure}"
            self.end(sequence, "error", now_s, code=ErrorCode.INVALID_REQUEST, message=message)
        else:
            self.end(sequence, "stop", now_s)

    def _drop(self, sequence: Sequence, why: str) -> None:
        """Nobody hears of its end."""
        self._remove(sequence)
        if sequence.trace is not None:
            self.traces.dropped(sequence, why)

    def _remove(self, sequence: Sequence) -> None:
        """The one place where a sequence gives back what it holds."""
        del self._sequences[sequence.request_id]
        model = self._model_of.pop(sequence.request_id)
        if sequence in model.unguided:
            model.unguided.remove(sequence)
            return
        model.stop(sequence)
        self._policy.leave(model.name, sequence)

    def _ends_at_once(self, submit: Submit, model: ServedModel | None) -> Ended | None:
        """How it ends without a step, if so."""
        if model is None:
            return Ended("error", ErrorCode.UNAVAILABLE, "the model is not loaded on this worker")
        if model.is_leaving:
            return Ended("error", ErrorCode.UNAVAILABLE, "the model is being removed")
        if len(submit.output) >= submit.sampling.max_tokens:  # an earlier attempt got that far
            return Ended("length")
        num_tokens = len(submit.prompt) + len(submit.output)
        if num_tokens == 0:
            return Ended("error", ErrorCode.INVALID_REQUEST, "the prompt is empty")
        if num_tokens >= model.max_sequence_tokens:
            limit = f"{num_tokens} tokens don't fit this worker's {model.max_sequence_tokens} for one sequence"
            return Ended("error", ErrorCode.CONTEXT_LENGTH_EXCEEDED, limit)
        if len(self._sequences) >= self._max_sequences:
            return Ended("error", ErrorCode.OVERLOADED, "the worker's queue is full")
        return None

    def _refuse(self, submit: Submit, ended: Ended) -> None:
        self.outbox.end(Stream(submit.owner, submit.request_id, submit.attempt, submit.output, ended), num_new=0)


def _stream(sequence: Sequence, ended: Ended | None = None) -> Stream:
    return Stream(
        sequence.owner,
        sequence.request_id,
        sequence.attempt,
        tuple(sequence.output),
        ended,
        tuple(sequence.logprobs),
        tuple(sequence.prompt_logprobs),
    )


def _rest_of(submit: Submit) -> Resend:
    return Resend(submit.owner, submit.request_id, submit.attempt, len(submit.output))
