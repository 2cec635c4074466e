"""A worker's part of traced requests: notes at each step, and spans at the end of a sequence.

run: from the assignment to the end; what follows is below it
  wait, prefill, decode: until its first step, its first token, its last one
  turn: its steps between two switches of the device, with the switch right before it
"""

import time
from collections.abc import Callable, Iterable

from gpu_worker.sequence import Sequence
from gpu_worker.sequence_trace import SequenceTrace, TracedTurn
from gpu_worker.switches import Switch
from shared.messages import Ended, Submit, SwitchTold
from shared.spans import Span, SpanContext, Value, traced
from shared.tracing import Tracer


class Traces:
    """Who is not traced costs a look at `is_busy` a step."""

    def __init__(self, tracer: Tracer | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._tracer = tracer
        self._clock = clock
        self._num_open = 0
        self._turn = 0  # of the device, counted while somebody is traced
        self._switch: Switch | None = None  # that no step has followed yet

    @property
    def is_busy(self) -> bool:
        return self._num_open > 0

    def begin(self, submit: Submit) -> SequenceTrace | None:
        """Of a sequence that was assigned now. It is to end once."""
        if self._tracer is None or (context := traced(submit.traceparent)) is None:
            return None
        self._num_open += 1
        return SequenceTrace(context, submit.model)

    def switched(self, switch: Switch) -> None:
        """The next step is its model's, if it does not fail."""
        self._turn += 1
        self._switch = switch

    def stepped(self, shares: Iterable[tuple[Sequence, int]], began_at_s: float, ended_at_s: float) -> None:
        """Before the tokens of this step are theirs. Shares are of one model."""
        switch, self._switch = self._switch, None
        for sequence, num_tokens in shares:
            if (trace := sequence.trace) is None:
                continue
            told = switch.told() if switch is not None and switch.model == trace.model else None
            is_decode = num_tokens == 1 and sequence.num_output_tokens > 0
            trace.stepped(self._turn, told, began_at_s, ended_at_s, num_tokens, is_decode=is_decode)

    def ended(self, sequence: Sequence, ended: Ended, now_s: float) -> None:
        """It is traced."""
        error = "" if ended.reason != "error" else str(ended.code.value if ended.code else "internal")
        self._put(sequence, ended.reason, error, now_s)

    def dropped(self, sequence: Sequence, why: str) -> None:
        """It is traced, and nobody hears of its end: its owner is gone, or has begun it anew."""
        self._put(sequence, why, why, self._clock())

    def _put(self, sequence: Sequence, reason: str, error: str, now_s: float) -> None:
        assert self._tracer is not None and sequence.trace is not None
        self._num_open -= 1
        self._tracer.put(sequence_spans(self._tracer, sequence, sequence.trace, reason, error, now_s))


def sequence_spans(
    tracer: Tracer, sequence: Sequence, trace: SequenceTrace, reason: str, error: str, now_s: float
) -> list[Span]:
    run = trace.context.child()
    first_step_at_s = now_s if sequence.first_step_at_s is None else sequence.first_step_at_s
    first_token_at_s = now_s if sequence.first_token_at_s is None else sequence.first_token_at_s
    attributes: dict[str, Value] = {
        "gen_ai.request.model": trace.model,
        "kottos.sequence": sequence.request_id,
        "kottos.attempt": sequence.attempt,
        "kottos.end": reason,
        "kottos.cached_prompt_tokens": sequence.num_cached_tokens,
        "kottos.preemptions": sequence.num_preemptions,
        "kottos.swaps": sequence.num_swaps,
    }
    parent = trace.context.span_id
    spans = [
        tracer.span("run", run, parent, sequence.assigned_at_s, now_s, attributes, kind="server", error=error),
        tracer.span("wait", run.child(), run.span_id, sequence.assigned_at_s, first_step_at_s),
    ]
    if sequence.first_step_at_s is not None:
        spans.append(tracer.span("prefill", run.child(), run.span_id, first_step_at_s, first_token_at_s))
    if sequence.first_token_at_s is not None:
        spans.append(tracer.span("decode", run.child(), run.span_id, first_token_at_s, now_s))
    return spans + [_turn_span(tracer, run, trace, turn) for turn in trace.turns]


def _turn_span(tracer: Tracer, run: SpanContext, trace: SequenceTrace, turn: TracedTurn) -> Span:
    attributes: dict[str, Value] = {
        "gen_ai.request.model": trace.model,
        "kottos.turns": turn.num_turns,
        "kottos.steps": turn.num_steps,
        "kottos.prefill_tokens": turn.num_prefill_tokens,
        "kottos.decode_tokens": turn.num_decode_tokens,
        **_switch_attributes(turn.switch),
    }
    return tracer.span("turn", run.child(), run.span_id, turn.began_at_s, turn.ended_at_s, attributes)


def _switch_attributes(switch: SwitchTold | None) -> dict[str, Value]:
    if switch is None:
        return {}
    return {
        "kottos.switch.kind": switch.kind,
        "kottos.switch.waited_s": switch.waited_s,
        "kottos.switch.copied_bytes": switch.copied_bytes,
    }
