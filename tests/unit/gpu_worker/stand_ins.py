"""Messages with few knobs, and a served model that runs nothing."""

from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch

from gpu_worker.device.cpu import CpuDevice
from gpu_worker.kv.memory import KvRegion
from gpu_worker.kv.room import Room
from gpu_worker.kv.store import KvStore
from gpu_worker.memory.prefix_index import SharedBlocks
from gpu_worker.memory.slab_pool import SlabPool, SparseSlab
from gpu_worker.outbox import Outbox
from gpu_worker.scheduling.costs import KnownCosts, guess
from gpu_worker.sequence import Sequence as WorkerSequence
from gpu_worker.served_model import ServedModel
from shared.ids import Incarnation, ModelName, OwnerId, RequestId, WorkerId
from shared.messages import Assign, Cancel, Resend, Sampling, SequenceTokens, Submit

WORKER = WorkerId("worker")
LIFE = Incarnation("life")
ROUTER = Incarnation("router")
OWNER = OwnerId("owner")
OTHER = OwnerId("other")
MODEL = ModelName("model")
BLOCK_TOKENS = 4
NUM_BLOCKS = 8
COSTS = KnownCosts(guess(1 << 20))


def submit(
    request: str = "r",
    attempt: int = 0,
    *,
    owner: OwnerId = OWNER,
    model: str = MODEL,
    prompt: Sequence[int] = (1, 2, 3),
    output: Sequence[int] = (),
    **sampling: Any,
) -> Submit:
    settings = Sampling(**{"max_tokens": 8, "seed": 1, **sampling})
    return Submit(RequestId(request), attempt, owner, ModelName(model), tuple(prompt), settings, tuple(output))


def assign(request: str = "r", attempt: int = 0, *, number: int = 1, **fields: Any) -> Assign:
    return Assign(submit(request, attempt, **fields), ROUTER, number)


def cancel(request: str = "r", attempt: int = 0, owner: OwnerId = OWNER) -> Cancel:
    return Cancel(RequestId(request), attempt, owner, MODEL, WORKER)


def resend(request: str = "r", first: int = 0, attempt: int = 0, owner: OwnerId = OWNER) -> Resend:
    return Resend(owner, RequestId(request), attempt, first)


def tokens(
    request: str, first: int, token_ids: Iterable[int], attempt: int = 0, num_cached: int | None = None
) -> SequenceTokens:
    return SequenceTokens(RequestId(request), attempt, first, tuple(token_ids), None, num_cached)


class SmallBlocks(CpuDevice):
    block_tokens = BLOCK_TOKENS


def kv_region(pool: SlabPool, *, keep: bool = True) -> KvRegion:
    return KvRegion(SharedBlocks(pool, keep=keep), torch.zeros(pool.total_bytes, dtype=torch.uint8))


def emptiest_that_fits(pool: SlabPool) -> SparseSlab | None:
    """Compaction wherever it is possible, whether it helps or not."""
    fitting = (slab for slab in pool.sparse_slabs() if slab.num_used <= slab.num_free_elsewhere)
    return min(fitting, key=lambda slab: slab.num_used * slab.shape.block_bytes, default=None)


def kv_store(pool: SlabPool) -> KvStore:
    """No host memory for KV, and nothing is kept."""
    host_pool = SlabPool(0, pool.slab_bytes, pool.quantum_bytes)
    return KvStore(kv_region(pool, keep=False), kv_region(host_pool), SmallBlocks(unified=True))


def served_model(name: str = MODEL, max_sequence_tokens: int = 100) -> tuple[ServedModel, SlabPool]:
    """With a KV pool of its own, of NUM_BLOCKS blocks, and no host memory for KV."""
    pool = SlabPool(NUM_BLOCKS, 1, 1)
    kv = kv_store(pool)
    unused = cast(Any, None)
    return ServedModel(ModelName(name), unused, kv.register(1), kv, unused, unused, max_sequence_tokens, COSTS), pool


def run(model: ServedModel, sequence: WorkerSequence) -> None:
    """As the engine starts it, with blocks for all of it."""
    assert Room({model.name: model}, model.kv).make(model, [(sequence, sequence.num_tokens)])


def drain(outbox: Outbox, owner: OwnerId = OWNER) -> list[SequenceTokens]:
    """What an owner would hear now."""
    return [entry for receiver, frame in outbox.drain() if receiver == owner for entry in frame.sequences]
