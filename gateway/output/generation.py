"""The choices of one call as they grow, for whoever writes them to the client."""

from collections.abc import Iterable

from gateway.admission.waiting import WaitingCall
from gateway.output.choice import Choice, Delta
from gateway.output.vocabulary import Vocabulary
from gateway.output.wake import Wake
from gateway.request.call import Call
from gateway.request.prompts import Prompt
from gateway.request.time_limit import TimeLimit


class Generation:
    """Those of its first prompt, then those of the second, ..."""

    def __init__(
        self,
        call: Call,
        choices: list[Choice],
        vocabulary: Vocabulary,
        wake: Wake,
        waiting: WaitingCall,
        limit: TimeLimit,
    ) -> None:
        self.choices = choices
        self.vocabulary = vocabulary
        self._call = call
        self._num_per_prompt = len(choices) // len(call.prompts)
        self._wake = wake
        self._waiting = waiting
        self._limit = limit

    def prompt_of(self, choice: int) -> Prompt:
        return self._call.prompts[choice // self._num_per_prompt]

    @property
    def is_done(self) -> bool:
        return all(choice.finish_reason for choice in self.choices)

    @property
    def num_prompt_tokens(self) -> int:
        """Each prompt counts once."""
        return sum(len(choice.prompt) for choice in self.choices[:: self._num_per_prompt])

    @property
    def num_output_tokens(self) -> int:
        return sum(choice.num_output_tokens for choice in self.choices)

    @property
    def num_cached_tokens(self) -> int:
        """Of the prompts, for the first choice of each."""
        return sum(choice.num_cached_tokens for choice in self.choices[:: self._num_per_prompt])

    @property
    def num_reasoning_tokens(self) -> int:
        """Of the output."""
        return sum(choice.num_reasoning_tokens for choice in self.choices)

    async def next(self, timeout_s: float | None = None) -> list[Delta]:
        """What is new, at most one delta per choice; empty after `timeout_s`. Raises RequestError if one failed, or the
        call's own limit has passed."""
        self._limit.check()
        while not (deltas := self._take()):
            if not await self._wake.wait(self._limit.at_most_s(timeout_s)):
                self._limit.check()
                return []
        for delta in deltas:
            self._waiting.started(delta.index)
        return deltas

    def _take(self) -> list[Delta]:
        trace = self._call.trace
        began_at_s = trace.clock() if trace is not None else 0.0
        deltas = [delta for choice in self.choices if (delta := choice.take())]
        if trace is not None and deltas:
            trace.detokenized(began_at_s, [(delta.index, delta.text) for delta in deltas])
        return deltas

    def status(self) -> str:
        """Of what is waited for, in words."""
        return str(self._waiting.standing() or "waiting")

    def written(self, deltas: Iterable[Delta]) -> None:
        """They are on their way to the client: now their tokens are on time or late."""
        for delta in deltas:
            self.choices[delta.index].written(delta)
        if self._call.trace is not None:
            self._call.trace.written()
