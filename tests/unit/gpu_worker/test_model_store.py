import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gpu_worker import model_store as model_store_module
from gpu_worker.host_cache import HostCache
from gpu_worker.model_store import ModelStore
from shared.errors import ConfigError, ModelError
from shared.ids import ModelName

A, B = ModelName("a"), ModelName("b")
NUM_BYTES = 6
Read = Callable[[Path, int], torch.Tensor]


class Store(ModelStore):
    """Two models of 6 bytes in a cache of `budget_bytes`, and a count of files read."""

    def __init__(self, folder: Path, budget_bytes: int) -> None:
        self.cache = HostCache(budget_bytes)
        self.evicted: list[ModelName] = []
        super().__init__(self.cache, self.evicted.append)
        for number, model in enumerate((A, B)):
            (folder / model).write_bytes(bytes([number]) * NUM_BYTES)
            self.add(model, folder / model, NUM_BYTES)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files read."""
    names: list[str] = []

    def read(path: Path, num_bytes: int, original: Read = model_store_module.map_blob) -> torch.Tensor:
        names.append(path.name)
        return original(path, num_bytes)

    monkeypatch.setattr(model_store_module, "map_blob", read)
    return names


async def test_a_blob_is_read_once_while_it_stays_cached(tmp_path: Path, reads: list[str]) -> None:
    store = Store(tmp_path, 2 * NUM_BYTES)
    first = await store.blob(B)
    assert first.tolist() == [1] * NUM_BYTES
    assert await store.blob(B) is first
    assert reads == ["b"]


async def test_two_that_want_the_same_blob_read_it_once(tmp_path: Path, reads: list[str]) -> None:
    store = Store(tmp_path, 2 * NUM_BYTES)
    first, second, _ = await asyncio.gather(store.blob(A), store.blob(A), store.preload(A))
    assert first is second
    assert reads == ["a"]


async def test_a_blob_that_is_wanted_evicts_and_says_whom(tmp_path: Path, reads: list[str]) -> None:
    store = Store(tmp_path, NUM_BYTES)
    for model in (A, B, A):
        await store.blob(model)
    assert store.evicted == [A, B]
    assert reads == ["a", "b", "a"]


async def test_preloading_evicts_nobody(tmp_path: Path, reads: list[str]) -> None:
    """A step of what is cached may be running."""
    store = Store(tmp_path, NUM_BYTES)
    for model in (A, B):
        await store.preload(model)
    assert (store.evicted, reads) == ([], ["a"])
    assert (A in store.cache, B in store.cache) == (True, False)


async def test_blobs_read_at_the_same_time_stay_within_the_budget(tmp_path: Path) -> None:
    store = Store(tmp_path, 2 * NUM_BYTES - 1)
    await asyncio.gather(store.preload(A), store.preload(B), store.blob(B))
    assert store.cache.used_bytes == NUM_BYTES


async def test_a_cached_blob_does_not_wait_for_anothers_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path, 2 * NUM_BYTES)
    cached = await store.blob(A)
    started, go_on = threading.Event(), threading.Event()

    def read(path: Path, num_bytes: int) -> torch.Tensor:
        started.set()
        assert go_on.wait(10.0)
        return torch.zeros(num_bytes, dtype=torch.uint8)

    monkeypatch.setattr(model_store_module, "map_blob", read)
    preloading = asyncio.create_task(store.preload(B))
    await asyncio.to_thread(started.wait)
    try:
        async with asyncio.timeout(10.0):
            assert await store.blob(A) is cached
        assert not preloading.done()
    finally:
        go_on.set()
        await preloading


async def test_errors(tmp_path: Path) -> None:
    store = Store(tmp_path, NUM_BYTES)
    with pytest.raises(ConfigError, match="host_memory"):
        store.add(ModelName("big"), tmp_path / "big", NUM_BYTES + 1)
    with pytest.raises(ModelError, match="'unknown' is not imported"):
        await store.blob(ModelName("unknown"))
    (tmp_path / A).write_bytes(b"")
    with pytest.raises(ModelError, match="has 0 bytes"):
        await store.blob(A)
    assert (await store.blob(B)).tolist() == [1] * NUM_BYTES  # the lock is free again
