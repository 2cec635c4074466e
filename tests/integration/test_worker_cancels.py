"""Cancels and failures while a request waits, is prefilled, decodes: all is given back within one step."""

import pytest

from gpu_worker.device.cpu import CpuDevice
from gpu_worker.execution.executor import Executor, PartOutput
from shared.errors import ErrorCode
from shared.ids import RequestId
from tests.integration.step_gate import gated_steps
from tests.integration.tiny_models import TinyModels
from tests.integration.worker_harness import Harness, running_worker

PROMPT = list(range(2, 72))  # 70 tokens, five steps of 16


async def assert_idle(harness: Harness) -> None:
    beat = await harness.beat_where(lambda beat: not beat.models[0].num_running and not beat.models[0].num_waiting)
    assert beat.kv_used_bytes == 0


@pytest.mark.parametrize("num_steps_before", [0, 3, 8], ids=["first step", "prefill", "decode"])
async def test_a_cancel_takes_effect_after_the_step_that_runs(
    tiny_models: TinyModels, num_steps_before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny_models.source("llama")
    async with running_worker(tiny_models.config([source], max_step_tokens=16)) as harness:
        async with gated_steps(monkeypatch) as gate:
            request_id = await harness.submit(source.name, PROMPT, 100)
            for _ in range(num_steps_before):
                await gate.arrival()
                gate.let()
            await gate.arrival()
            for _ in range(2):
                await harness.cancel(request_id, source.name)
            gate.open()
            stream = await harness.finish(request_id)
            await assert_idle(harness)
            assert gate.num_steps == num_steps_before + 1
        assert stream.ended is not None
        assert stream.ended.reason == "cancelled"
        assert len(stream.tokens) == max(0, gate.num_steps - 4)
        ends = [entry for frame in harness.frames for entry in frame.sequences if entry.ended]
        assert len(ends) == 1


async def test_a_cancel_while_waiting(tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tiny_models.source("llama")
    async with running_worker(tiny_models.config([source], max_running=1)) as harness:
        async with gated_steps(monkeypatch) as gate:
            running = await harness.submit(source.name, PROMPT, 10)
            await gate.arrival()
            waiting = await harness.submit(source.name, PROMPT, 10)
            await harness.cancel(waiting, source.name)
            gate.let()
            assert len(await gate.arrival()) == 1
            gate.let()
            assert (await harness.finish(waiting)).tokens == []
            gate.open()
            assert (await harness.finish(running)).tokens == tiny_models.generate(source, PROMPT, 10)
            assert gate.num_steps == 10
        ended = harness.streams[waiting].ended
        assert ended is not None
        assert ended.reason == "cancelled"
        await assert_idle(harness)


async def test_a_cancel_before_its_request(tiny_models: TinyModels) -> None:
    source = tiny_models.source("llama")
    async with running_worker(tiny_models.config([source])) as harness:
        await harness.cancel(RequestId("r"), source.name)
        stream = await harness.finish(await harness.submit(source.name, PROMPT, 10, request_id="r"))
        assert stream.ended is not None
        assert (stream.ended.reason, stream.tokens) == ("cancelled", [])


async def test_a_step_that_raises_ends_its_sequences_and_the_worker_goes_on(
    tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny_models.source("llama")

    def fail(executor: Executor, parts: object) -> list[PartOutput]:
        raise RuntimeError("out of luck")

    async with running_worker(tiny_models.config([source])) as harness:
        ids = [await harness.submit(source.name, PROMPT[:n], 300) for n in (5, 40)]
        await harness.tokens(ids[1], 3)
        with monkeypatch.context() as patch:
            patch.setattr(Executor, "step", fail)
            for stream in [await harness.finish(request_id) for request_id in ids]:
                assert stream.ended is not None
                assert (stream.ended.reason, stream.ended.code) == ("error", ErrorCode.INTERNAL)
                assert "luck" not in stream.ended.message
        await assert_idle(harness)
        assert await harness.run_all([(source, PROMPT, 10)]) == [tiny_models.generate(source, PROMPT, 10)]


async def test_a_copy_of_weights_that_fails_is_made_again(
    tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny_models.source("llama")

    def fail(device: CpuDevice, destination: object, source: object) -> None:
        raise RuntimeError("bad memory")

    async with running_worker(tiny_models.config([source], device_memory_bytes=8 << 20)) as harness:
        with monkeypatch.context() as patch:
            patch.setattr(CpuDevice, "copy", fail)
            stream = await harness.finish(await harness.submit(source.name, PROMPT, 10))
            assert stream.ended is not None
            assert (stream.ended.reason, stream.ended.code) == ("error", ErrorCode.INTERNAL)
        beat = await harness.beats()
        assert (beat.models[0].state, beat.kv_used_bytes) == ("cached", 0)
        assert await harness.run_all([(source, PROMPT, 10)]) == [tiny_models.generate(source, PROMPT, 10)]
        assert [switch.kind for switch in harness.switches] == ["copied"]
