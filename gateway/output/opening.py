"""Prepared sequences as choices that are under way."""

from collections.abc import Callable

from gateway.attainment import Attainment, DeadlineMeter
from gateway.metrics import GatewayMetrics
from gateway.output.choice import Choice
from gateway.output.detokenize import NUM_CONTEXT_TOKENS
from gateway.request import params as checks
from gateway.request.call import Call
from gateway.request.preparation import Prepared, PreparedSequence
from gateway.sequences.owner import Owner
from shared.ids import RequestId
from shared.slo import ServiceLevel


class Opening:
    def __init__(
        self, owner: Owner, attainment: Attainment, metrics: GatewayMetrics, clock: Callable[[], float]
    ) -> None:
        self._owner = owner
        self._attainment = attainment
        self._metrics = metrics
        self._clock = clock

    def open(
        self,
        index: int,
        wanted: PreparedSequence,
        call: Call,
        prepared: Prepared,
        level: ServiceLevel,
        wake: Callable[[], None],
    ) -> Choice:
        """Its owner submits it; whoever gets the choice closes it."""
        sequence = self._owner.open(
            RequestId(f"{call.call_id}-{index}"),
            call.model,
            wanted.prompt,
            wanted.sampling,
            level,
            call.arrived_at_s,
            wake,
            tenant=call.tenant.id,
            cache_salt=call.tenant.cache_salt,
            trace=call.trace.begin_sequence() if call.trace is not None else None,
        )
        return Choice(
            index,
            sequence,
            prepared.model.vocabulary,
            wanted.prompt[-NUM_CONTEXT_TOKENS:] if wanted.continues_text else (),
            checks.stops(call.params),
            self._owner,
            DeadlineMeter(level.slo, call.arrived_at_s, self._attainment.of(call.model)),
            self._clock,
            self._metrics.token_times(call.model, call.arrived_at_s),
            keeps_stop=bool(call.params.include_stop_str_in_output),
            scores_only=call.params.max_tokens == 0,
            reading=prepared.answer.open_reading() if prepared.answer else None,
        )
