"""Which model runs when, as frames and events tell; and draws that no schedule changes."""

import asyncio
import gc
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from gpu_worker.host_cache.client import HostCacheClient
from gpu_worker.host_cache.policy import whole_pages
from gpu_worker.host_cache.protocol import BlobSpec
from shared.config import ModelSource
from shared.ids import RequestId
from tests.integration.step_gate import gated_steps
from tests.integration.tiny_models import TinyModels
from tests.integration.worker_harness import Harness, running_worker

PROMPT = list(range(2, 42))
NUM_TOKENS = 24
ONE_MODEL_BYTES = 2 << 20  # of the weight region
KV_BYTES = 4 << 20


async def start_together(
    harness: Harness, sources: Sequence[ModelSource], monkeypatch: pytest.MonkeyPatch, num_tokens: int = NUM_TOKENS
) -> list[RequestId]:
    """One request of each model, all there before the first step is over."""
    async with gated_steps(monkeypatch) as gate:
        ids = [await harness.submit(source.name, PROMPT, num_tokens) for source in sources]
        await gate.arrival()
    return ids


def turns(harness: Harness, ids: Sequence[RequestId]) -> list[int]:
    """Per frame, whose step it was."""
    return [ids.index(entry.request_id) for frame in harness.frames for entry in frame.sequences]


async def test_resident_models_alternate_step_by_step(tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [tiny_models.source("llama"), tiny_models.source("gemma3")]
    config = tiny_models.config(sources, device_memory_bytes=2 * ONE_MODEL_BYTES + KV_BYTES, turn_steps=1)
    async with running_worker(config) as harness:
        ids = await start_together(harness, sources, monkeypatch)
        for source, request_id in zip(sources, ids, strict=True):
            assert (await harness.finish(request_id)).tokens == tiny_models.generate(source, PROMPT, NUM_TOKENS)
        order = turns(harness, ids)
        assert all(a != b for a, b in itertools.pairwise(order))
        kinds = [switch.kind for switch in harness.switches]
        assert kinds == ["copied"] * 2 + ["resident"] * (2 * NUM_TOKENS - 2)
        assert [switch.previous for switch in harness.switches[1:]] == [s.model for s in harness.switches[:-1]]
        beat = await harness.beats()
        assert {load.state for load in beat.models} == {"resident"}


async def test_with_memory_for_one_a_turn_has_its_least_steps(
    tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [tiny_models.source("llama"), tiny_models.source("gemma3")]
    config = tiny_models.config(sources, device_memory_bytes=ONE_MODEL_BYTES + KV_BYTES, turn_steps=3)
    async with running_worker(config) as harness:
        ids = await start_together(harness, sources, monkeypatch)
        for source, request_id in zip(sources, ids, strict=True):
            assert (await harness.finish(request_id)).tokens == tiny_models.generate(source, PROMPT, NUM_TOKENS)
        lengths = [len(list(group)) for _, group in itertools.groupby(turns(harness, ids))]
        assert lengths == [3] * (2 * NUM_TOKENS // 3)
        assert [switch.kind for switch in harness.switches] == ["copied"] * len(lengths)
        assert all(switch.copied_bytes > 0 for switch in harness.switches)
        beat = await harness.beats()
        assert sorted(load.state for load in beat.models) == ["cached", "resident"]


def num_mapped() -> int:
    """How many blobs lie in this process's memory."""
    return Path("/proc/self/maps").read_text().count("/memfd:kottos-")


async def test_unified_memory_with_a_host_cache_for_one(
    tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blobs are let go of and read again; what a step is using stays."""
    num_tokens = 4 * NUM_TOKENS  # a model runs on until its host asks for its memory, which takes as long as it takes
    sources = [tiny_models.source("llama", seed) for seed in (0, 1)]
    blob_bytes = whole_pages(tiny_models.weights_file(sources[0]).stat().st_size)
    config = tiny_models.config(sources, host_memory_bytes=blob_bytes, turn_steps=2)
    gc.collect()  # workers of other tests
    async with running_worker(config) as harness:
        ids = await start_together(harness, sources, monkeypatch, num_tokens)
        for source, request_id in zip(sources, ids, strict=True):
            assert (await harness.finish(request_id)).tokens == tiny_models.generate(source, PROMPT, num_tokens)
        lengths = [len(list(group)) for _, group in itertools.groupby(turns(harness, ids))]
        assert min(lengths[1:-2]) >= 2  # the first was preloaded; the last turns end with their requests
        assert len(lengths) > 4
        assert {switch.kind for switch in harness.switches[1:]} == {"from disk"}
        assert num_mapped() == 1


async def test_resident_models_need_no_blob_in_the_host_cache(
    tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_acquired, acquire = 0, HostCacheClient.acquire

    async def count(self: HostCacheClient, blob: BlobSpec, **options: Any) -> Tensor | None:
        nonlocal num_acquired
        tensor = await acquire(self, blob, **options)
        num_acquired += tensor is not None
        return tensor

    monkeypatch.setattr(HostCacheClient, "acquire", count)
    sources = [tiny_models.source("llama", seed) for seed in (0, 1)]
    config = tiny_models.config(
        sources,
        device_memory_bytes=2 * ONE_MODEL_BYTES + KV_BYTES,
        host_memory_bytes=whole_pages(tiny_models.weights_file(sources[0]).stat().st_size),
        turn_steps=1,
    )
    async with running_worker(config) as harness:
        ids = await start_together(harness, sources, monkeypatch)
        for source, request_id in zip(sources, ids, strict=True):
            assert (await harness.finish(request_id)).tokens == tiny_models.generate(source, PROMPT, NUM_TOKENS)
        assert len(harness.switches) > NUM_TOKENS // 2  # the first ran alone until the second was there
    assert num_acquired == 2


# --- draws --------------------------------------------------------------------------------------

SAMPLING: list[dict[str, Any]] = [
    {"seed": 100 + i, "temperature": 1.0 + 0.1 * i, "top_p": 0.95 if i % 2 else 1.0, "frequency_penalty": 0.5 * (i % 3)}
    for i in range(8)
]
PROMPTS = [PROMPT[: 5 * i + 1] for i in range(8)]


async def draw(harness: Harness, which: Sequence[int]) -> list[list[int]]:
    """The tokens of these requests, all at once."""
    ids = [await harness.submit("qwen3-0", PROMPTS[i], NUM_TOKENS, **SAMPLING[i]) for i in which]
    return [stream.tokens for stream in await asyncio.gather(*map(harness.finish, ids))]


async def test_drawn_tokens_do_not_depend_on_the_batch_chunks_or_preemption(tiny_models: TinyModels) -> None:
    source = tiny_models.source("qwen3")
    async with running_worker(tiny_models.config([source])) as harness:
        alone = [(await draw(harness, [i]))[0] for i in range(8)]
        assert await draw(harness, range(8)) == alone
        assert await draw(harness, [5, 2]) == [alone[5], alone[2]]
    assert len({tuple(tokens) for tokens in alone}) == 8
    block_bytes = tiny_models.block_bytes(source)
    config = tiny_models.config(
        [source], kv_memory_bytes=15 * block_bytes, slab_bytes=3 * block_bytes, max_step_tokens=7
    )
    async with running_worker(config) as harness:
        assert await draw(harness, range(8)) == alone
        ends = [entry.ended for frame in harness.frames for entry in frame.sequences if entry.ended]
        assert sum(ended.num_preemptions for ended in ends) > 0


async def test_an_attempt_continues_the_draws_of_an_earlier_one(tiny_models: TinyModels) -> None:
    async with running_worker(tiny_models.config([tiny_models.source("qwen3")])) as harness:
        (expected,) = await draw(harness, [3])
        request_id = await harness.submit(
            "qwen3-0", PROMPTS[3], NUM_TOKENS, attempt=1, output=expected[:9], **SAMPLING[3]
        )
        harness.streams[request_id].tokens += expected[:9]
        assert (await harness.finish(request_id)).tokens == expected
