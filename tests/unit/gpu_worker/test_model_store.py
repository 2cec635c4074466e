import asyncio
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gpu_worker.host_cache.protocol import BlobId, BlobSpec
from gpu_worker.model_store import ModelStore
from shared.errors import ModelError
from shared.ids import ModelName

A, B, ALIAS = ModelName("a"), ModelName("b"), ModelName("alias of b")
BLOBS = {A: BlobSpec(BlobId("A"), 6, "/a"), B: BlobSpec(BlobId("B"), 6, "/b")}


class StubCache:
    """Grants each blob when the test lets it, by default at once."""

    def __init__(self) -> None:
        self.acquired: list[tuple[BlobId, bool]] = []  # blob, preload
        self.used: list[BlobId] = []
        self.dropped: list[BlobId] = []
        self.may_grant = asyncio.Event()
        self.may_grant.set()
        self.has_room = True
        self.error: ModelError | None = None

    async def acquire(
        self, blob: BlobSpec, *, preload: bool, on_progress: Callable[[int], None] = lambda done_bytes: None
    ) -> Tensor | None:
        self.acquired.append((blob.id, preload))
        on_progress(1)
        await self.may_grant.wait()
        if self.error is not None:
            raise self.error
        return torch.zeros(blob.num_bytes, dtype=torch.uint8) if self.has_room or not preload else None

    def note_use(self, blob: BlobId) -> None:
        self.used.append(blob)

    def drop(self, blob: BlobId) -> None:
        self.dropped.append(blob)


class Store(ModelStore):
    """Three models, two of them of the same bytes."""

    def __init__(self) -> None:
        self.cache = StubCache()
        self.released: list[ModelName] = []
        super().__init__(self.cache, self.released.append)
        for model, blob in {**BLOBS, ALIAS: BLOBS[B]}.items():
            self.add(model, blob)

    async def blob(self, model: ModelName) -> Tensor:
        await self.fetch(model)
        blob = self.get(model)
        assert blob is not None
        return blob


async def test_a_blob_is_asked_for_once_while_it_may_be_kept() -> None:
    store = Store()
    assert (A in store, store.get(A)) == (False, None)
    blob = await store.blob(A)
    assert await store.blob(A) is blob
    assert (A in store, store.get(A)) == (True, blob)
    assert store.cache.acquired == [("A", False)]
    assert store.cache.used == ["A"] * 3


async def test_two_that_want_the_same_blob_ask_once() -> None:
    store = Store()
    first, second, third, _ = await asyncio.gather(store.blob(B), store.blob(B), store.blob(ALIAS), store.preload(B))
    assert first is second is third
    assert store.cache.acquired == [("B", False)]


async def test_a_preload_without_room_leaves_asking_to_the_first_use() -> None:
    store = Store()
    store.cache.has_room = False
    await store.preload(A)
    assert A not in store
    assert len(await store.blob(A)) == 6
    assert store.cache.acquired == [("A", True), ("A", False)]


async def test_what_is_not_held_goes_at_once_for_all_its_models() -> None:
    store = Store()
    await store.blob(B)
    store.reclaim(BLOBS[B].id)
    assert store.released == [B, ALIAS]
    assert (B in store, ALIAS in store) == (False, False)
    assert len(await store.blob(B)) == 6


async def test_what_is_held_goes_when_the_last_hold_ends() -> None:
    store = Store()
    with store.hold(B):
        blob = await store.blob(B)
        with store.hold(ALIAS):
            store.reclaim(BLOBS[B].id)
        assert store.released == []
        assert await store.blob(B) is blob
    assert store.released == [B, ALIAS]
    with store.hold(B):
        await store.blob(B)
    assert B in store  # it was asked for once


async def test_what_is_asked_back_while_it_arrives_goes_when_it_is_there() -> None:
    store = Store()
    store.cache.may_grant.clear()
    preloading = asyncio.create_task(store.preload(A))
    await asyncio.sleep(0)
    store.reclaim(BLOBS[A].id)
    store.cache.may_grant.set()
    await preloading
    assert (store.released, A in store) == ([A], False)
    await store.preload(A)
    assert A in store


async def test_a_hold_that_ends_by_an_error_ends() -> None:
    store = Store()
    await store.blob(A)
    with pytest.raises(ZeroDivisionError), store.hold(A):
        store.reclaim(BLOBS[A].id)
        raise ZeroDivisionError
    assert store.released == [A]


async def test_one_model_does_not_wait_for_anothers_blob() -> None:
    store = Store()
    cached = await store.blob(A)
    store.cache.may_grant.clear()
    preloading = asyncio.create_task(store.preload(B))
    await asyncio.sleep(0)
    assert store.cache.acquired[-1] == ("B", True)
    assert await store.blob(A) is cached
    assert not preloading.done()
    store.cache.may_grant.set()
    await preloading
    assert B in store


async def test_progress_is_told_while_it_arrives() -> None:
    store = Store()
    store.cache.may_grant.clear()
    fetching = asyncio.create_task(store.fetch(B))
    await asyncio.sleep(0)
    assert (store.progress(B), store.progress(ALIAS), store.progress(A)) == (1 / 6, 1 / 6, None)
    store.cache.may_grant.set()
    await fetching
    assert store.progress(B) is None


async def test_errors_pass_and_the_next_one_asks_again() -> None:
    store = Store()
    with pytest.raises(ModelError, match="'unknown' is not imported"):
        await store.fetch(ModelName("unknown"))
    store.cache.error = ModelError("corrupt")
    with pytest.raises(ModelError, match="corrupt"):
        await store.blob(A)
    store.cache.error = None
    assert len(await store.blob(A)) == 6


async def test_a_removed_model_gives_its_blob_back_unless_another_shares_it() -> None:
    store = Store()
    blob = await store.blob(B)
    store.remove(B)
    assert B not in store
    assert store.get(ALIAS) is blob
    store.remove(ALIAS)
    assert store.get(ALIAS) is None
    store.add(B, BLOBS[B])
    assert await store.blob(B) is not blob
    assert store.cache.acquired == [(BlobId("B"), False)] * 2


async def test_what_is_let_go_leaves_the_host_too_when_nobody_holds_it() -> None:
    store = Store()
    await store.blob(A)
    with store.hold(A):
        store.let_go(A)
        assert (A in store, store.cache.dropped) == (True, ["A"])
    assert (A in store, store.released) == (False, [A])
    await store.blob(A)
    assert A in store  # it was let go of once


async def test_what_another_model_shares_is_not_let_go() -> None:
    store = Store()
    await store.blob(B)
    store.let_go(B)
    assert (B in store, store.cache.dropped) == (True, [])
