"""A request's way through the gateway, whoever brings it: admit, prepare, open, and let go of all of it at its end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from msgspec.structs import replace

from gateway.admission.admission import Admission
from gateway.admission.in_flight import OpenCall
from gateway.output.generation import Generation
from gateway.output.opening import Opening
from gateway.output.wake import Wake
from gateway.request import params as checks
from gateway.request.call import Call
from gateway.request.preparation import Preparation, Prepared
from gateway.request.time_limit import TimeLimit
from shared.errors import RequestError
from shared.levels import Levels
from shared.slo import ServiceLevel


class Pipeline:
    def __init__(
        self,
        admission: Admission,
        preparation: Preparation,
        opening: Opening,
        levels: Levels,
        clock: Callable[[], float],
        on_refused: Callable[[Call, RequestError], None] = lambda call, error: None,
    ) -> None:
        self._admission = admission
        self._preparation = preparation
        self._opening = opening
        self._levels = levels
        self._clock = clock
        self._on_refused = on_refused

    @asynccontextmanager
    async def generate(self, call: Call) -> AsyncIterator[Generation]:
        """Leaving the block ends the call: what still runs is cancelled. Raises RequestError."""
        is_open = False
        try:
            limit = TimeLimit(checks.time_limit_s(call.params), call.arrived_at_s, self._clock)
            with self._admission.admitted(call, self._priority(call)) as opened:
                async with limit.kept():
                    prepared = await self._preparation.prepare(call)
                opened.claim.reserve(prepared.most_tokens, self._clock())
                generation = self._open(opened, prepared, limit)
                is_open = True
                yield generation
        except RequestError as error:
            if not is_open:
                self._on_refused(call, error)
            raise

    def _open(self, opened: OpenCall, prepared: Prepared, limit: TimeLimit) -> Generation:
        call, level, wake = opened.call, self._level(opened.call), Wake(asyncio.get_running_loop())
        for index, wanted in enumerate(prepared.sequences):
            opened.choices.append(self._opening.open(index, wanted, call, prepared, level, wake.set))
        return Generation(call, opened.choices, prepared.model.vocabulary, wake, opened.waiting, limit)

    def _level(self, call: Call) -> ServiceLevel:
        """Of checked params."""
        level = checks.service_level(call.params, self._levels[call.model])
        return replace(level, priority=self._priority(call))

    def _priority(self, call: Call) -> int:
        return call.tenant.urgency(call.params.priority, self._levels[call.model].priority)
