"""The door to the pipeline: who is let in, what an open call holds until its end, and how a gateway empties."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gateway.admission.in_flight import InFlight, OpenCall
from gateway.admission.waiting import LineName, WaitingLines
from gateway.output.choice import Choice
from gateway.request.call import Call
from gateway.request.params import num_choices
from gateway.tenants.usage import Claim, Usages
from shared.errors import ErrorCode, RequestError
from shared.ids import ModelName


class Admission:
    """A call holds four things: room in the gateway, its choices, its places in line, its part of its tenant's limits.
    They are taken in this order and given back in reverse, whatever becomes of it."""

    def __init__(self, lines: WaitingLines, usages: Usages, max_requests: int, clock: Callable[[], float]) -> None:
        self._lines = lines
        self._usages = usages
        self._max_requests = max_requests
        self._clock = clock
        self._num_open = 0  # sequences from admission to the end of their call
        self._open: dict[str, OpenCall] = {}  # by id, the oldest first
        self._is_draining = False
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    @property
    def num_open(self) -> int:
        return self._num_open

    def in_flight(self) -> Iterator[InFlight]:
        """Every sequence, the oldest call's first."""
        now_s = self._clock()
        for call in self._open.values():
            yield from call.in_flight(now_s)

    def num_of_models(self) -> Counter[ModelName]:
        """Sequences that `in_flight` would have."""
        nums: Counter[ModelName] = Counter()
        for opened in self._open.values():
            nums[opened.call.model] += opened.num_unfinished
        return nums

    def readers(self) -> list[Choice]:
        """Of all open calls."""
        return [choice for call in self._open.values() for choice in call.choices]

    @contextmanager
    def admitted(self, call: Call, priority: int) -> Iterator[OpenCall]:
        """Until the block is left; then its choices are closed. Raises RequestError."""
        if not call.tenant.may_use(call.model):
            why = f"This API key may not use the model {call.model!r}."
            raise RequestError(ErrorCode.PERMISSION_DENIED, why, param="model")
        num = num_choices(call.params, len(call.prompts))
        choices: list[Choice] = []
        with self._room(num), _closing(choices), self._in_line(call, priority, num, choices) as opened:
            yield opened

    async def drain(self, grace_s: float, end_all: Callable[[RequestError], None]) -> None:
        """Refuses new calls and waits for the running ones; those that last longer are ended with an error."""
        self._is_draining = True
        if not await self._becomes_idle(grace_s):
            end_all(_stopping())
            await self._becomes_idle(grace_s)

    @contextmanager
    def _room(self, num: int) -> Iterator[None]:
        """For so many sequences. Raises RequestError."""
        if self._is_draining:
            raise _stopping()
        if self._num_open + num > self._max_requests:
            raise RequestError(ErrorCode.OVERLOADED, "Too many requests are in flight.", retry_after_s=1.0)
        self._num_open += num
        self._is_idle.clear()
        try:
            yield
        finally:
            self._num_open -= num
            if self._num_open == 0:
                self._is_idle.set()

    @contextmanager
    def _in_line(self, call: Call, priority: int, num: int, choices: list[Choice]) -> Iterator[OpenCall]:
        """It has its places among those that wait for a first token. Raises RequestError."""
        line = LineName(call.model, call.tenant.id)
        waiting = self._lines.enter(line, priority, num, call.params.timeout_s, self._clock)
        try:
            with self._claimed(call, num, choices) as claim:
                opened = self._open[call.call_id] = OpenCall(call, num, choices, waiting, claim)
                try:
                    yield opened
                finally:
                    del self._open[call.call_id]
        finally:
            waiting.leave()

    @contextmanager
    def _claimed(self, call: Call, num: int, choices: list[Choice]) -> Iterator[Claim]:
        """Its tenant's limits let it in, and count what it came to. Raises RequestError."""
        claim = self._usages.of(call.tenant, self._clock()).begin(num, self._clock())
        try:
            yield claim
        finally:
            num_prompt_tokens = sum(len(choice.prompt) for choice in choices[:: call.params.n or 1])
            claim.end(num_prompt_tokens + sum(choice.num_output_tokens for choice in choices), self._clock())

    async def _becomes_idle(self, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                await self._is_idle.wait()
        except TimeoutError:
            return False
        return True


@contextmanager
def _closing(choices: list[Choice]) -> Iterator[None]:
    """Those that are in it at the end."""
    try:
        yield
    finally:
        for choice in choices:
            choice.close()


def _stopping() -> RequestError:
    return RequestError(ErrorCode.UNAVAILABLE, "The gateway is stopping.", retry_after_s=1.0)
