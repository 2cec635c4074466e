"""The demo models in float32 with everything moved all the time: token for token what transformers generates alone.

The device holds the weights of one model and KV of few sequences. Whoever has been part of a step is swapped out and in
before its next one, the models take turns of one step, and prompts begin alike.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest

from gpu_worker.kv.store import KvStore
from gpu_worker.memory.prefix_index import BlockKey, SharedBlocks
from gpu_worker.memory.slab_pool import ShapeClass
from gpu_worker.sequence import Sequence
from shared.config import WorkerConfig
from shared.messages import Ended
from tests.e2e.demo_models import Demo, demo_config, open_demos
from tests.integration.test_kv_swap import swap_at_every_step
from tests.integration.worker_harness import Harness, running_worker

pytestmark = pytest.mark.usefixtures("one_thread")

BEGINNING: Final = (
    "Many models share few devices. A model keeps its place only while it has work, and what a request has computed "
    "moves to host memory when others need the room. Nothing of this may change a single token of any answer. "
)
ENDINGS: Final = ("The capital of France is", "Once upon a time,", "def fibonacci(n):\n    ")
NUM_TOKENS: Final = 12
SHARED_TOKENS: Final = 32  # of BEGINNING, in full blocks; the whole prompts have 48 or more
DEVICE_BYTES: Final = 1100 << 20  # the weights of one model take 514 MiB, those of the other 1023
KV_BYTES: Final = 12 << 20  # 12 blocks of either model; a sequence takes four or five


@dataclass(frozen=True)
class Asked:
    demo: Demo
    prompt: list[int]


def worker_config(link_bandwidth_bytes: int = 0) -> WorkerConfig:
    return WorkerConfig(
        dtype="float32",
        device_memory_bytes=DEVICE_BYTES,
        kv_memory_bytes=KV_BYTES,
        most_kv_memory_bytes=KV_BYTES,
        host_kv_memory_bytes=256 << 20,
        slab_bytes=1 << 20,
        num_threads=1,
        policy="round-robin",
        turn_steps=1,
        link_bandwidth_bytes=link_bandwidth_bytes,
    )


@pytest.fixture(scope="module")
def asked(demo_cache: Path, one_thread: None) -> list[Asked]:
    """Both models in turns."""
    config = demo_config(demo_cache, worker_config())
    demos = asyncio.run(open_demos(config, [BEGINNING + ending for ending in ENDINGS]))
    return [Asked(demo, demo.prompts[i]) for i in range(len(ENDINGS)) for demo in demos]


def count_hits(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Blocks that sequences found when they first came, by the memory that had them."""
    enter, match = KvStore.enter, SharedBlocks.match
    hits, found = Counter[str](), Counter[SharedBlocks]()

    def count_match(blocks: SharedBlocks, keys: Seq[BlockKey]) -> list[int]:
        block_ids = match(blocks, keys)
        found[blocks] += len(block_ids)
        return block_ids

    def count_enter(store: KvStore, shape: ShapeClass, sequence: Sequence, num_tokens: int) -> bool:
        found.clear()
        has_entered = enter(store, shape, sequence, num_tokens)
        if has_entered and sequence.num_preemptions == 0:
            hits["device"] += found[store._on_device.blocks]
            hits["host"] += found[store._in_host.blocks]
        return has_entered

    monkeypatch.setattr(SharedBlocks, "match", count_match)
    monkeypatch.setattr(KvStore, "enter", count_enter)
    return hits


async def run_round(harness: Harness, asked: Seq[Asked]) -> list[Ended]:
    """All at once -> how they ended, in order."""
    ids = [await harness.submit(each.demo.name, each.prompt, NUM_TOKENS) for each in asked]
    streams = [await harness.finish(request_id) for request_id in ids]
    for each, stream in zip(asked, streams, strict=True):
        assert stream.tokens == each.demo.generate(each.prompt, NUM_TOKENS, stream.tokens)
    return [stream.ended for stream in streams if stream.ended]


@pytest.mark.parametrize(("kind", "link_bandwidth_bytes"), [("copied", 0), ("streamed", 8 << 30)])
async def test_whatever_moves_the_output_is_transformers_own(
    demo_cache: Path, asked: list[Asked], monkeypatch: pytest.MonkeyPatch, kind: str, link_bandwidth_bytes: int
) -> None:
    hits = count_hits(monkeypatch)
    swap_at_every_step(monkeypatch)
    async with running_worker(demo_config(demo_cache, worker_config(link_bandwidth_bytes))) as harness:
        first = await run_round(harness, asked[:2])  # one request of each model
        second = await run_round(harness, asked[2:4])
        third = await run_round(harness, asked)
        switches = harness.switches
    for end in [*first, *second, *third]:
        assert end.num_swaps == end.num_preemptions >= NUM_TOKENS - 1
    assert len(switches) >= 3 * NUM_TOKENS
    assert all(a.model != b.model for a, b in pairwise(switches))
    assert {switch.kind for switch in switches} == {kind}
    assert not any(end.num_cached_tokens for end in first)
    assert all(end.num_cached_tokens == SHARED_TOKENS for end in second)  # the same beginning
    assert all(end.num_cached_tokens > SHARED_TOKENS for end in third[:4])  # the same prompts
    assert all(end.num_cached_tokens >= SHARED_TOKENS for end in third[4:])
    assert hits["device"] > 0 and hits["host"] > 0
