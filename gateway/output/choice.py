"""One sequence's tokens as text, up to a stop string."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from gateway.attainment import DeadlineMeter
from gateway.metrics import TokenTimes
from gateway.output.answer import AnswerReader, Parts, Reading, joined
from gateway.output.detokenize import Detokenizer
from gateway.output.stop import StopStrings
from gateway.output.text_progress import TextProgress
from gateway.output.vocabulary import Vocabulary
from gateway.sequences.owner import Owner
from gateway.sequences.sequence import Phase, Sequence
from shared.errors import RequestError
from shared.ids import WorkerId
from shared.messages import RequestFinished, TokenLogprobs, ToolCallPiece

FinishReason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True)
class Delta:
    """What a choice grew by."""

    index: int
    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason | None
    num_tokens_out: int  # of the choice, from its first on: their text is here or came before
    logprobs: tuple[TokenLogprobs, ...] = ()  # of the tokens whose text is here, if they were asked for
    reasoning: str = ""  # of a chat: apart from its text, as are
    tool_calls: tuple[ToolCallPiece, ...] = ()


def merged(deltas: list[Delta]) -> Delta:
    """Of one choice, at least one: what it grew by in all of them."""
    last = deltas[-1]
    return Delta(
        last.index,
        "".join(delta.text for delta in deltas),
        tuple(token_id for delta in deltas for token_id in delta.token_ids),
        last.finish_reason,
        last.num_tokens_out,
        tuple(entry for delta in deltas for entry in delta.logprobs),
        "".join(delta.reasoning for delta in deltas),
        tuple(piece for delta in deltas for piece in delta.tool_calls),
    )


class Choice:
    """Reads a sequence; hears what of it was written; `close` says that nobody reads it any more."""

    def __init__(
        self,
        index: int,
        sequence: Sequence,
        vocabulary: Vocabulary,
        context: tuple[int, ...],
        stops: tuple[str, ...],
        owner: Owner,
        meter: DeadlineMeter,
        clock: Callable[[], float],
        times: TokenTimes | None = None,
        *,
        keeps_stop: bool = False,
        scores_only: bool = False,
        reading: Reading | None = None,
    ) -> None:
        """keeps_stop: what ends it is text. scores_only: nothing but the prompt's log-probabilities is wanted.
        reading: of a chat; other output is text throughout."""
        self.index = index
        self.finish_reason: FinishReason | None = None
        self.num_output_tokens = 0  # read so far
        self.num_reasoning_tokens = 0  # of these
        self._sequence = sequence
        self._answer, shown_ids = reading or Reading(AnswerReader())
        self._detokenizer = Detokenizer(vocabulary, context, shown_ids)
        self._stops = StopStrings(stops, keep=keeps_stop)
        self._progress = TextProgress()
        self._owner = owner
        self._meter = meter
        self._clock = clock
        self._times = times
        self._keeps_stop = keeps_stop
        self._scores_only = scores_only
        self._num_logprobs_out = 0

    @property
    def prompt(self) -> tuple[int, ...]:
        return self._sequence.first_submit.prompt

    @property
    def phase(self) -> Phase:
        return self._sequence.phase

    @property
    def num_arrived_tokens(self) -> int:
        """Of the output, read or not."""
        return len(self._sequence.output)

    @property
    def worker(self) -> WorkerId | None:
        return None if self._sequence.place is None else self._sequence.place.worker

    @property
    def prompt_logprobs(self) -> list[TokenLogprobs]:
        """From its second token on, if they were asked for: complete with the first delta."""
        return self._sequence.prompt_logprobs

    @property
    def num_unread(self) -> int:
        """Tokens that came and were not taken, each once more for every log-probability that comes with it."""
        if self.finish_reason:
            return 0
        num_logprobs = self._sequence.first_submit.sampling.num_logprobs or 0
        return (len(self._sequence.output) - self.num_output_tokens) * (1 + num_logprobs)

    def abandon(self, error: RequestError) -> None:
        """Its reader is too far behind: what is unread is forgotten, and the error is what comes next."""
        self._owner.abandon(self._sequence, self.num_output_tokens, error)

    @property
    def num_cached_tokens(self) -> int:
        """Of the prompt, as its worker said with the first tokens."""
        return self._sequence.num_cached_tokens

    @property
    def stop_string(self) -> str | None:
        """The one that ended it, if one did."""
        return self._stops.found

    def take(self) -> Delta | None:
        """What is new since the last call. Raises RequestError when the sequence failed."""
        if self.finish_reason:
            return None
        if self._scores_only:
            return self._take_scores()
        # The output first: what ends the sequence comes after its tokens.
        token_ids, parts = self._read()
        ended = self._sequence.ended
        if not self.finish_reason and ended is not None:
            if isinstance(ended, RequestError):
                if not token_ids:
                    raise ended
            else:
                parts.append(self._finish("stop" if ended.reason == "stop" else "length"))
        if not token_ids and not self.finish_reason:
            return None
        num_tokens_out = self.num_output_tokens if self.finish_reason else self._progress.num_tokens_out
        logprobs = self._sequence.take_logprobs(num_tokens_out - self._num_logprobs_out)
        self._num_logprobs_out = num_tokens_out
        text, reasoning, calls = joined(parts)
        return Delta(self.index, text, token_ids, self.finish_reason, num_tokens_out, logprobs, reasoning, calls)

    def _take_scores(self) -> Delta | None:
        """The one token that its worker had to draw is nobody's."""
        if isinstance(self._sequence.ended, RequestError):
            raise self._sequence.ended
        if self._sequence.ended is None:
            return None
        self.finish_reason = "length"
        return Delta(self.index, "", (), "length", 0)

    def written(self, delta: Delta) -> None:
        """It is on its way to the client."""
        now_s = self._clock()
        self._meter.written(delta.num_tokens_out, now_s)
        if self._times is not None:
            self._times.written(delta.num_tokens_out, now_s)

    def _read(self) -> tuple[tuple[int, ...], list[Parts]]:
        """New tokens and the text that they complete, up to a stop string."""
        sampling = self._sequence.first_submit.sampling
        parts: list[Parts] = []
        first = self.num_output_tokens
        for token_id in self._sequence.output[first:]:
            self.num_output_tokens += 1
            is_end = self.num_output_tokens > sampling.min_tokens and token_id in sampling.stop_token_ids
            if is_end and not self._keeps_stop:
                continue
            text = self._detokenizer.feed(token_id)
            num_chars, stopped = len(text), False
            if self.num_output_tokens > sampling.min_tokens:
                text, stopped = self._stops.feed(text)
            was_reasoning = self._answer.is_reasoning
            parts.append(self._answer.feed(text, is_last=stopped))
            self.num_reasoning_tokens += was_reasoning or self._answer.is_reasoning
            if not self._detokenizer.num_silent:
                num_held = self._stops.num_held + self._answer.num_held
                self._progress.feed(self.num_output_tokens, num_chars, num_held)
            if stopped or self._answer.is_complete:
                self.finish_reason = self._reason("stop")
                self._owner.cancel(self._sequence.first_submit.request_id)
                break
        return tuple(self._sequence.output[first : self.num_output_tokens]), parts

    def _finish(self, reason: FinishReason) -> Parts:
        """The text that was held back."""
        text, stopped = self._stops.feed(self._detokenizer.flush())
        if not stopped:
            text += self._stops.flush()
        parts = self._answer.feed(text, is_last=True)
        self.finish_reason = self._reason("stop" if stopped else reason)
        return parts

    def _reason(self, reason: FinishReason) -> FinishReason:
        return "tool_calls" if reason == "stop" and self._answer.has_calls else reason

    def close(self) -> None:
        """Cancels what still runs, and tells whoever subscribes how it ended."""
        submit = self._sequence.first_submit
        self._owner.cancel(submit.request_id)
        now_s = self._clock()
        error = self._sequence.ended if isinstance(self._sequence.ended, RequestError) else None
        max_tokens = self.num_output_tokens if self.finish_reason else submit.sampling.max_tokens
        self._meter.ended(max_tokens, now_s, error)
        first_token_at_s = self._sequence.first_token_at_s
        arrived_at_s = self._sequence.arrived_at_s
        place = self._sequence.place
        finished = RequestFinished(
            request_id=submit.request_id,
            model=submit.model,
            finish_reason=self.finish_reason or ("error" if error else "cancelled"),
            num_prompt_tokens=len(submit.prompt),
            num_output_tokens=self.num_output_tokens,
            num_cached_tokens=self.num_cached_tokens,
            ttft_s=None if first_token_at_s is None else first_token_at_s - arrived_at_s,
            total_s=now_s - arrived_at_s,
            gateway=submit.owner,
            worker=place.worker if place else None,
            num_due_tokens=self._meter.num_due,
            num_on_time_tokens=self._meter.num_on_time,
            tenant=submit.tenant,
        )
        if self._sequence.trace is not None:
            self._sequence.trace.finish(finished, now_s, error.code.value if error else "")
        self._owner.announce(finished)
