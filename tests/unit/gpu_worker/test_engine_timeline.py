"""What the token loop tells of its steps, and when."""

from shared.ids import ModelName
from tests.unit.gpu_worker.test_engine import running, tokens_of

A, B = ModelName("a"), ModelName("b")


async def test_nothing_is_kept_unless_somebody_watches() -> None:
    async with running({A: tokens_of}) as worker:
        worker.submit("r", A, num_tokens=3)
        await worker.ended("r")
        assert len(worker.engine.timeline) == 0


async def test_every_step_and_switch_is_told_while_somebody_watches() -> None:
    async with running({A: tokens_of, B: tokens_of}, look_s=0.01) as worker:
        worker.engine.timeline.watch(0.0)
        for request, model in (("r", A), ("s", B)):
            worker.submit(request, model, num_tokens=3)  # of a prompt of 3
        for request in "rs":
            await worker.ended(request)
        turns = worker.engine.timeline.take(worker.clock())
    assert [turn.model for turn in turns] == [switch.model for switch in worker.switches]
    assert [turn.switch and turn.switch.kind for turn in turns] == [switch.kind for switch in worker.switches]
    for model in (A, B):
        steps = [step for turn in turns if turn.model == model for step in turn.steps]
        assert [(s.num_prefill_tokens, s.num_decode_tokens, s.num_drawn_tokens) for s in steps] == [
            (3, 0, 1), (0, 1, 1), (0, 1, 1)
        ]  # fmt: skip
        assert all(step.duration_s > 0 for step in steps)
    ages_s = [turn.age_s for turn in turns]
    assert ages_s == sorted(ages_s, reverse=True) and ages_s[-1] > 0
