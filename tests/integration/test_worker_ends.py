"""How requests end by themselves, and which are refused."""

from typing import Any

import pytest

from benchmarks.tiny_models import CONTEXT_LENGTH
from shared.errors import ErrorCode
from shared.messages import Ended
from tests.integration.step_gate import gated_steps
from tests.integration.tiny_models import TinyModels
from tests.integration.worker_harness import Harness, running_worker

PROMPT = list(range(2, 42))


async def run(harness: Harness, model: str, num_tokens: int, prompt: list[int] = PROMPT, **sampling: Any) -> list[int]:
    """The tokens of a request that is alone."""
    return (await harness.finish(await harness.submit(model, prompt, num_tokens, **sampling))).tokens


def last_end(harness: Harness) -> Ended:
    ended = harness.frames[-1].sequences[-1].ended
    assert ended is not None
    return ended


async def test_stop_tokens_max_tokens_and_min_tokens(tiny_models: TinyModels) -> None:
    source = tiny_models.source("llama")
    free = tiny_models.generate(source, PROMPT, 30)
    stop = free[8]
    at = free.index(stop)
    async with running_worker(tiny_models.config([source])) as harness:
        assert await run(harness, source.name, 30, stop_token_ids=(stop,)) == free[: at + 1]
        assert last_end(harness).reason == "stop"
        assert await run(harness, source.name, at, stop_token_ids=(stop,)) == free[:at]
        assert last_end(harness).reason == "length"
        late = await run(harness, source.name, 30, stop_token_ids=(stop,), min_tokens=at + 5)
        assert late[:at] == free[:at]
        assert stop not in late[: at + 5]
        assert len(late) > at + 5
        assert await run(harness, source.name, 1) == free[:1]


async def test_a_sequence_ends_with_the_context(tiny_models: TinyModels) -> None:
    source = tiny_models.source("llama")
    prompt = [2 + i % 300 for i in range(CONTEXT_LENGTH - 5)]
    async with running_worker(tiny_models.config([source])) as harness:
        assert await run(harness, source.name, 100, prompt) == tiny_models.generate(source, prompt, 5)
        assert last_end(harness).reason == "length"


async def test_a_sequence_ends_with_the_kv_memory(tiny_models: TinyModels) -> None:
    source = tiny_models.source("llama")
    block_bytes = tiny_models.block_bytes(source)
    config = tiny_models.config([source], kv_memory_bytes=4 * block_bytes, slab_bytes=2 * block_bytes)
    async with running_worker(config) as harness:
        beat = await harness.beats()
        assert beat.models[0].max_sequence_tokens == 64
        assert await run(harness, source.name, 100) == tiny_models.generate(source, PROMPT, 24)
        assert last_end(harness).reason == "length"
        assert await run(harness, source.name, 5, [2] * 64) == []
        assert last_end(harness).code is ErrorCode.CONTEXT_LENGTH_EXCEEDED


@pytest.mark.parametrize(
    ("model", "prompt", "code"),
    [
        ("llama-0", [2] * CONTEXT_LENGTH, ErrorCode.CONTEXT_LENGTH_EXCEEDED),
        ("llama-0", [], ErrorCode.INVALID_REQUEST),
        ("unknown", [2], ErrorCode.UNAVAILABLE),
    ],
)
async def test_refusals(tiny_models: TinyModels, model: str, prompt: list[int], code: ErrorCode) -> None:
    async with running_worker(tiny_models.config([tiny_models.source("llama")])) as harness:
        assert await run(harness, model, 5, prompt) == []
        assert (last_end(harness).reason, last_end(harness).code) == ("error", code)
        beat = await harness.beats()
        assert beat.last_assignment == 1


async def test_a_full_queue_refuses_and_the_others_finish(
    tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny_models.source("llama")
    async with running_worker(tiny_models.config([source], max_waiting=3)) as harness:
        async with gated_steps(monkeypatch) as gate:
            ids = [await harness.submit(source.name, PROMPT, 5) for _ in range(5)]
            await gate.arrival()
        streams = [await harness.finish(request_id) for request_id in ids]
        codes = [stream.ended and stream.ended.code for stream in streams]
        assert codes == [None, None, None, ErrorCode.OVERLOADED, ErrorCode.OVERLOADED]
        assert await run(harness, source.name, 5) == streams[0].tokens


async def test_the_end_tells_the_time(tiny_models: TinyModels) -> None:
    async with running_worker(tiny_models.config([tiny_models.source("llama")], max_step_tokens=16)) as harness:
        await run(harness, "llama-0", 5)
        ended = last_end(harness)
        assert ended.queue_s >= 0
        assert ended.prefill_s > 0
        assert ended.decode_s > 0
        assert ended.num_preemptions == 0
