"""Whatever comes together: five models with memory for two, host memory for three or one, little KV, cancels.

Requests are drawn from a seed; when what happens is up to the machine. In float32 no token changes, all memory comes
back, and nothing is logged as an error.
"""

import logging
import random
from typing import Any

import pytest

from gpu_worker.host_cache.policy import whole_pages
from gpu_worker.memory.arena import Arena
from gpu_worker.memory.prefix_index import SharedBlocks
from gpu_worker.service import WorkerService
from gpu_worker.weights import ArenaWeights
from shared.config import ModelSource
from shared.ids import RequestId
from tests.integration.tiny_models import TinyModels
from tests.integration.worker_harness import Harness, Stream, running_worker

FAMILIES = ("llama", "gemma3", "qwen2", "gpt_neox", "mistral")
ALIGN_BYTES = 64 << 10  # of weights, so that sizes differ
NUM_REQUESTS = 60
MOST_TOKENS = 30
SHARED = list(range(2, 52))  # beginnings of prompts

LINK: dict[str, object] = {"link_bandwidth_bytes": 64 << 20}
CASES: list[dict[str, object]] = [  # settings, and for how many models host memory is
    {"policy": "deadline", **LINK},
    {"policy": "deadline", "max_running": 4, "prefix_cache": False},
    {"policy": "round-robin", "turn_steps": 1, **LINK},
    {"policy": "aegaeon", "num_hosted": 1, "turn_steps": 2, **LINK},
    {"policy": "request-sjf", "num_hosted": 1, "turn_steps": 2},
    {"policy": "deadline", "device_memory_bytes": 0},  # unified
    {"policy": "request", "device_memory_bytes": 0, "probe_steps": True},
]


def settings_for(
    tiny_models: TinyModels, sources: list[ModelSource], num_hosted: int = 3, **case: object
) -> dict[str, object]:
    sizes = sorted((tiny_models.weights_file(source).stat().st_size for source in sources), reverse=True)
    block_bytes = max(tiny_models.block_bytes(source) for source in sources)
    slab_bytes = 2 * block_bytes
    weight_bytes = sum(-(-size // ALIGN_BYTES) * ALIGN_BYTES for size in sizes[:2])
    return {
        "slab_bytes": slab_bytes,
        "kv_memory_bytes": 12 * slab_bytes,
        "least_kv_memory_bytes": 6 * slab_bytes,
        "host_kv_memory_bytes": 8 * slab_bytes,
        "host_memory_bytes": sum(map(whole_pages, sizes[:num_hosted])),
        "device_memory_bytes": weight_bytes + 12 * slab_bytes,
        "max_step_tokens": 40,
        **case,
    }


async def submit_some(
    harness: Harness, sources: list[ModelSource], draw: random.Random
) -> dict[RequestId, tuple[ModelSource, list[int], int]]:
    """In bursts; some are cancelled, at whatever time that is for them."""
    requests: dict[RequestId, tuple[ModelSource, list[int], int]] = {}
    while len(requests) < NUM_REQUESTS:
        for _ in range(draw.choice([1, 2, 12])):
            prompt = SHARED[: draw.choice([0, 20, 50])] + [draw.randrange(2, 380) for _ in range(draw.randint(1, 20))]
            request = (draw.choice(sources), prompt, draw.randint(1, MOST_TOKENS))
            requests[await harness.submit(request[0].name, *request[1:])] = request
        cancelled, after = draw.choice(list(requests)), draw.choice(list(requests))
        await first_word(harness.streams[after])
        await harness.cancel(cancelled, requests[cancelled][0].name)
    return requests


async def first_word(stream: Stream) -> None:
    """A token, or its end."""
    while not (stream.tokens or stream.done.is_set()):
        stream.changed.clear()
        await stream.changed.wait()


def is_at_rest(service: WorkerService) -> bool:
    """Copies and probes have ended, too."""
    used_bytes = sum(blocks.used_bytes for _, blocks in service._kv.sides())
    return used_bytes == service._store._held.total() == len(service._engine._loader._coming) == 0


def check_memory(blocks: SharedBlocks) -> None:
    """Free + kept = total: nobody uses any."""
    assert blocks.used_bytes == 0
    stats = blocks.stats()
    assert stats.num_free_slabs * blocks.slab_bytes + stats.held_bytes == stats.total_bytes
    assert stats.used_bytes == blocks.kept_bytes


def check_all_is_back(service: WorkerService) -> None:
    for _, blocks in service._kv.sides():
        check_memory(blocks)
    assert len(service._roster) == 0
    if isinstance(weights := service._memory.weights, ArenaWeights):
        used = [span.offset for span in weights._arena.spans() if span.used]
        assert used == sorted(map(weights._offset, weights._placed))
        assert not weights._coming


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['policy']}-{len(case)}")
async def test_no_token_changes_and_all_memory_comes_back(
    tiny_models: TinyModels, case: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Arena.__init__, "__defaults__", (ALIGN_BYTES,))
    sources = [tiny_models.source(family) for family in FAMILIES]
    config = tiny_models.config(sources, **settings_for(tiny_models, sources, **case))
    with caplog.at_level(logging.ERROR):
        async with running_worker(config) as harness:
            requests = await submit_some(harness, sources, random.Random(repr(case)))
            streams = {request_id: await harness.finish(request_id) for request_id in requests}
            await harness.beat_where(lambda beat: is_at_rest(harness.service))
            check_all_is_back(harness.service)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
    for request_id, (source, prompt, num_tokens) in requests.items():
        tokens, ended = streams[request_id].tokens, streams[request_id].ended
        assert ended is not None and ended.reason in ("length", "cancelled")
        assert ended.reason == "cancelled" or len(tokens) == num_tokens
        assert tokens == tiny_models.generate(source, prompt, len(tokens), tokens)
