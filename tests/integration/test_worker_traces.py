"""A real worker's part of a trace: turns and switches as its frames and events tell them."""

from itertools import pairwise

from shared.spans import Sampler, Span, SpanContext
from shared.tracing import Tracer
from tests.integration.step_gate import gated_steps
from tests.integration.tiny_models import TinyModels
from tests.integration.worker_harness import running_worker

OWNERS = SpanContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
PROMPT = list(range(2, 22))
NUM_TOKENS = 12
TURN_STEPS = 3


async def test_turns_are_those_of_the_device(tiny_models: TinyModels, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Two models with memory for one; only the first one's sequence is traced."""
    spans: list[Span] = []
    sources = [tiny_models.source("llama"), tiny_models.source("gemma3")]
    config = tiny_models.config(sources, device_memory_bytes=6 << 20, turn_steps=TURN_STEPS)
    async with running_worker(config, tracer=Tracer(spans.extend, Sampler(0.0))) as harness:
        async with gated_steps(monkeypatch) as gate:
            traced, other = [
                await harness.submit(source.name, PROMPT, NUM_TOKENS, traceparent=header)
                for source, header in zip(sources, (OWNERS.header(), ""), strict=True)
            ]
            await gate.arrival()
        await harness.finish(traced)
        await harness.finish(other)
        switches = [switch for switch in harness.switches if switch.model == sources[0].name]
    [run] = [span for span in spans if span.name == "run"]
    turns = [span for span in spans if span.name == "turn"]
    assert (run.context.trace_id, run.parent_span_id) == OWNERS
    assert {span.parent_span_id for span in spans if span is not run} == {run.context.span_id}
    assert {span.attributes["kottos.sequence"] for span in spans if span is run} == {traced}
    assert [turn.attributes["kottos.steps"] for turn in turns] == [TURN_STEPS] * (NUM_TOKENS // TURN_STEPS)
    assert [turn.attributes["kottos.prefill_tokens"] for turn in turns] == [len(PROMPT), 0, 0, 0]
    told = [(s.kind, s.waited_s, s.copied_bytes) for s in switches]
    keys = ("kind", "waited_s", "copied_bytes")
    assert [tuple(turn.attributes[f"kottos.switch.{key}"] for key in keys) for turn in turns] == told
    assert all(a.ended_at_ns <= b.began_at_ns for a, b in pairwise(turns))
    phases = [span for span in spans if span.name in ("wait", "prefill", "decode")]
    assert phases[0].began_at_ns == run.began_at_ns and phases[-1].ended_at_ns == run.ended_at_ns
    assert all(a.ended_at_ns == b.began_at_ns for a, b in pairwise(phases))
