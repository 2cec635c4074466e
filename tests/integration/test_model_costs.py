"""What steps cost is measured while a worker is idle, learnt while it works, told in its beats, and kept."""

import pytest

from gpu_worker.calibration import Calibration, Expected
from gpu_worker.cost_file import load_costs
from gpu_worker.scheduling.costs import StepShape, guess
from gpu_worker.scheduling.measured_costs import MeasuredCosts
from shared.ids import ModelName
from shared.messages import WorkerBeat
from tests.integration.test_exactness import KV_BYTES, ONE_MODEL_BYTES, prompts
from tests.integration.test_streaming import SLOW_BYTES_PER_S
from tests.integration.tiny_models import TinyModels
from tests.integration.worker_harness import running_worker

NUM_TOKENS = 6


async def test_an_idle_worker_measures_its_models_once_for_all_its_lives(
    tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny_models.source("llama", seed=11)
    config = tiny_models.config([source], probe_steps=True)
    folder = tiny_models.weights_file(source).parent
    prompt = prompts(1, seed=5)[0]
    reference = tiny_models.generate(source, prompt, NUM_TOKENS)

    async with running_worker(config) as harness:
        assert await harness.run_all([(source, prompt, NUM_TOKENS)]) == [reference]
        beat = await harness.beat_where(lambda beat: bool(list(folder.glob("costs-*.json"))) and _is_empty(beat))
        measured_s = beat.models[0].step_s
    file = next(folder.glob("costs-*.json"))
    costs = load_costs(file)
    assert costs is not None
    assert measured_s != pytest.approx(guess(tiny_models.weights_file(source).stat().st_size).step_s(StepShape(1, 0)))

    def expect(self: Calibration, model: ModelName, expected: Expected) -> None:
        pytest.fail("measured again")

    monkeypatch.setattr(Calibration, "expect", expect)
    async with running_worker(config) as harness:
        beat = await harness.beats()
        assert beat.models[0].step_s == pytest.approx(costs.step_s(StepShape(1, 0)))
        assert await harness.run_all([(source, prompt, NUM_TOKENS)]) == [reference]


async def test_a_step_that_waits_for_weights_teaches_nothing(
    tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[StepShape] = []
    monkeypatch.setattr(MeasuredCosts, "observe", lambda self, shape, seconds: shapes.append(shape))
    source = tiny_models.source("llama")
    config = tiny_models.config(
        [source], device_memory_bytes=ONE_MODEL_BYTES + KV_BYTES, link_bandwidth_bytes=SLOW_BYTES_PER_S
    )
    prompt = prompts(1, seed=3)[0]
    async with running_worker(config) as harness:
        await harness.run_all([(source, prompt, NUM_TOKENS)])
        assert [switch.kind for switch in harness.switches] == ["streamed"]
    assert 0 < len(shapes) < NUM_TOKENS
    assert not any(shape.num_prefill_tokens for shape in shapes), "the first step was streamed"


def _is_empty(beat: WorkerBeat) -> bool:
    return beat.kv_used_bytes == 0
