"""One sequence as its owner sees it, and where it runs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import msgspec

from gateway.tracing.sequence_trace import SequenceTrace
from shared.errors import RequestError
from shared.ids import Incarnation, WorkerId
from shared.messages import Ended, SequenceTokens, Submit, TokenLogprobs

Phase = Literal["submitting", "held", "queued", "running"]  # held: by a router, until a worker takes it


class Place(NamedTuple):
    """One life of one worker."""

    worker: WorkerId
    incarnation: Incarnation


@dataclass(slots=True, eq=False)
class Sequence:
    """Written by the ledger alone; its reader looks at `output` and `ended` whenever `wake` was called, and takes
    log-probabilities away."""

    first_submit: Submit  # attempt 0
    arrived_at_s: float
    wake: Callable[[], None]
    heard_at_s: float  # of it, or asked for it
    attempt: int = 0
    output: list[int] = field(default_factory=list)  # token ids so far; at most sampling.max_tokens
    logprobs: list[TokenLogprobs] = field(default_factory=list)  # of the newest tokens, from the first not taken on
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)  # the prompt's, from its second token on
    ended: Ended | RequestError | None = None  # Ended with stop or length only
    first_token_at_s: float | None = None
    router: Incarnation | None = None  # that accepted this attempt
    place: Place | None = None  # where this attempt runs
    is_behind: bool = False  # tokens may be lost, and were asked for
    num_crashes: int = 0
    num_cached_tokens: int = 0  # of the prompt, as this attempt's worker says
    trace: SequenceTrace | None = None  # where its request is traced

    @property
    def is_held(self) -> bool:
        """A router has it, and no worker as far as we know."""
        return self.router is not None and self.place is None

    @property
    def phase(self) -> Phase:
        if self.place is None:
            return "submitting" if self.router is None else "held"
        return "running" if self.output else "queued"

    @property
    def most_tokens(self) -> int:
        """Of prompt and output."""
        return len(self.first_submit.prompt) + self.first_submit.sampling.max_tokens

    def submit(self) -> Submit:
        """The message that asks for the rest of this sequence."""
        traceparent = self.trace.traceparent if self.trace is not None else ""
        return msgspec.structs.replace(
            self.first_submit, attempt=self.attempt, output=tuple(self.output), traceparent=traceparent
        )

    def lacks_what_is_before(self, tokens: SequenceTokens) -> bool:
        """Something was lost. A prompt's log-probabilities all come before the first token."""
        num_scored = len(self.prompt_logprobs)
        if (prompt := tokens.prompt_logprobs) is not None:
            if prompt.first > num_scored:
                return True
            num_scored = max(num_scored, prompt.first + len(prompt.tokens))
        asks = self.first_submit.sampling.num_prompt_logprobs is not None
        is_scored = not asks or num_scored >= len(self.first_submit.prompt) - 1
        return tokens.first > len(self.output) or (bool(tokens.token_ids) and not is_scored)

    def take(self, tokens: SequenceTokens, now_s: float) -> None:
        """What is new of them; nothing is lacking before."""
        if (prompt := tokens.prompt_logprobs) is not None:
            self.prompt_logprobs += prompt.tokens[len(self.prompt_logprobs) - prompt.first :]
        self.append(tokens.first, tokens.token_ids, now_s, tokens.logprobs)
        if tokens.ended is not None and self.trace is not None:
            self.trace.attempt_ended(now_s)

    def append(
        self, first: int, token_ids: tuple[int, ...], now_s: float, logprobs: tuple[TokenLogprobs, ...] = ()
    ) -> None:
        """Takes what is new of output[first:], where first <= len(output)."""
        self.is_behind = False
        self.heard_at_s = now_s
        num_known = len(self.output) - first
        new = token_ids[num_known:]
        if not new:
            return
        if self.first_token_at_s is None:
            self.first_token_at_s = now_s
        self.output += new
        self.logprobs += logprobs[num_known:]
        self.wake()

    def take_logprobs(self, num_tokens: int) -> tuple[TokenLogprobs, ...]:
        """Of the next tokens, if they were asked for. They are not kept: one with 20 others takes over a kilobyte."""
        taken = tuple(self.logprobs[:num_tokens])
        del self.logprobs[:num_tokens]
        return taken

    def next_attempt(self, now_s: float) -> None:
        self.attempt += 1
        self.router = self.place = None
        self.is_behind = False
        self.num_cached_tokens = 0
        self.heard_at_s = now_s
        if self.trace is not None:
            self.trace.next_attempt(now_s, self.num_crashes)

    def end_in_output(self) -> Ended | None:
        """How the tokens that are here end the sequence by themselves, if they do."""
        sampling = self.first_submit.sampling
        if self.output and self.output[-1] in sampling.stop_token_ids and len(self.output) > sampling.min_tokens:
            return Ended("stop")
        return Ended("length") if len(self.output) >= sampling.max_tokens else None
