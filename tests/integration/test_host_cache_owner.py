"""The owner with everything in this process, and files that are read when the test says so."""

import asyncio
import contextlib
import itertools
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gpu_worker.host_cache.blob_file import read_blob
from gpu_worker.host_cache.channel import Channel, ChannelClosed, is_ours, worker_decoder
from gpu_worker.host_cache.owner import CacheOwner
from gpu_worker.host_cache.policy import whole_pages
from gpu_worker.host_cache.protocol import BlobSpec, Progress
from shared.errors import ModelError
from tests.integration.host_cache_harness import BLOB_BYTES, TIMEOUT_S, digest, worker, write_blob

BLOB_MEMORY = whole_pages(BLOB_BYTES)


@dataclass
class Host:
    """An owner, and a way to it for any number of workers."""

    owner: CacheOwner
    reads: list[str]  # paths
    attending: list[asyncio.Task[None]] = field(default_factory=list)

    async def connect(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        channel = Channel(theirs, worker_decoder)
        self.attending.append(asyncio.create_task(self.owner.attend(channel)))
        return ours

    async def close(self) -> None:
        return None


class Gate:
    """Holds files' readers until it opens."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self._open = threading.Event()

    async def arrival(self) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            await self.arrived.wait()

    def pass_through(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_soon_threadsafe(self.arrived.set)
        assert self._open.wait(TIMEOUT_S)

    def open(self) -> None:
        self._open.set()

    def shut(self) -> None:
        self.arrived.clear()
        self._open.clear()


@contextlib.asynccontextmanager
async def host(
    num_blobs: int,
    *,
    gate: Gate | None = None,
    reclaim_timeout_s: float = TIMEOUT_S,
) -> AsyncIterator[Host]:
    """With room for `num_blobs`; each look at its clock takes a second."""
    loop, reads = asyncio.get_running_loop(), list[str]()

    def read(blob: BlobSpec, report: Callable[[int], None], stopping: threading.Event) -> int:
        reads.append(blob.path)
        if gate is not None:
            gate.pass_through(loop)
        return read_blob(blob, report, stopping)

    clock = itertools.count()
    owner = CacheOwner(num_blobs * BLOB_MEMORY, read, lambda: float(next(clock)), reclaim_timeout_s=reclaim_timeout_s)
    running = asyncio.create_task(owner.run())
    host = Host(owner, reads)
    try:
        yield host
    finally:
        if gate is not None:
            gate.open()
        for task in (running, *host.attending):
            task.cancel()
        await asyncio.wait([running, *host.attending])


async def test_first_loads_of_one_model_at_the_same_time_read_it_once(tmp_path: Path) -> None:
    gate, blob = Gate(), write_blob(tmp_path, 1)
    async with host(2, gate=gate) as h, worker(h) as first, worker(h) as second:
        asking = [asyncio.create_task(each.get(blob)) for each in (first, first, second)]
        await gate.arrival()
        late = asyncio.create_task(second.get(blob, preload=True))
        gate.open()
        assert await asyncio.gather(*asking, late) == [blob.id] * 4
        assert h.reads == [blob.path]


async def test_what_is_cached_does_not_wait_for_a_read(tmp_path: Path) -> None:
    gate, cached, slow = Gate(), write_blob(tmp_path, 1), write_blob(tmp_path, 2)
    async with host(2, gate=gate) as h, worker(h) as here, worker(h) as there:
        gate.open()
        assert await here.get(cached) == cached.id
        gate.shut()
        reading = asyncio.create_task(here.get(slow))
        await gate.arrival()
        assert await there.get(cached) == cached.id
        assert not reading.done()


async def test_who_uses_what_has_to_go_is_asked_and_may_take_its_time(tmp_path: Path) -> None:
    blob, other = write_blob(tmp_path, 1), write_blob(tmp_path, 2)
    async with host(1) as h, worker(h) as first, worker(h) as second, worker(h) as third:
        first.keeps = True
        assert await first.get(blob) == blob.id
        assert await second.get(blob) == blob.id
        asking = asyncio.create_task(third.get(other))
        await first.asked_back.wait()
        await second.asked_back.wait()
        assert not asking.done() and h.reads == [blob.path]
        assert digest(first.blobs[blob.id]) == blob.id
        first.blobs.clear()
        assert await asking == other.id


async def test_a_view_of_a_blob_keeps_its_room(tmp_path: Path) -> None:
    blob, other = write_blob(tmp_path, 1), write_blob(tmp_path, 2)
    async with host(1) as h, worker(h) as here:
        assert await here.get(blob) == blob.id
        view = here.blobs[blob.id][10:20]
        asking = asyncio.create_task(here.get(other))
        await here.asked_back.wait()
        assert here.blobs == {} and not asking.done()
        assert len(view) == 10
        del view
        assert await asking == other.id


async def test_who_never_lets_go_costs_the_one_that_asks_and_nobody_else(tmp_path: Path) -> None:
    blob, other = write_blob(tmp_path, 1), write_blob(tmp_path, 2)
    async with host(1, reclaim_timeout_s=0.05) as h, worker(h) as stubborn, worker(h) as here:
        stubborn.keeps = True
        assert await stubborn.get(blob) == blob.id
        with pytest.raises(ModelError, match=rf"no room for {other.path}: workers use .* within 0\.05 s"):
            await here.get(other)
        assert await here.get(blob) == blob.id  # it stays after all
        stubborn.blobs.clear()
        assert await here.get(other) == other.id


async def test_preloading_asks_nobody_to_go(tmp_path: Path) -> None:
    blob, other = write_blob(tmp_path, 1), write_blob(tmp_path, 2)
    async with host(1) as h, worker(h) as here:
        assert await here.get(blob, preload=True) == blob.id
        assert await here.get(other, preload=True) is None
        assert h.reads == [blob.path] and not here.asked_back.is_set()


async def test_what_nobody_waits_for_is_read_when_the_cores_have_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads_behind: list[int] = []

    @contextlib.contextmanager
    def others_first() -> Iterator[None]:
        num_before = len(h.reads)
        yield
        reads_behind.append(len(h.reads) - num_before)

    monkeypatch.setattr("gpu_worker.host_cache.owner.others_first", others_first)
    blob, other = write_blob(tmp_path, 1), write_blob(tmp_path, 2)
    async with host(2) as h, worker(h) as here:
        assert await here.get(blob) == blob.id
        assert reads_behind == []
        assert await here.get(other, preload=True) == other.id
        assert reads_behind == [1]


async def test_the_most_used_stays(tmp_path: Path) -> None:
    blobs = [write_blob(tmp_path, seed) for seed in range(3)]
    async with host(2) as h, worker(h) as here, worker(h) as there:
        for blob in blobs[:2]:
            assert await here.get(blob) == blob.id
        assert await there.get(blobs[0]) == blobs[0].id  # the second use
        assert await here.get(blobs[2]) == blobs[2].id
        assert set(here.blobs) == {blobs[0].id, blobs[2].id}


async def test_uses_are_told_without_asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpu_worker.host_cache.client._REPORT_S", 0.01)
    noted = asyncio.Event()
    blob = write_blob(tmp_path, 1)
    async with host(1) as h, worker(h) as here:
        assert await here.get(blob) == blob.id
        monkeypatch.setattr(h.owner._policy, "note_use", lambda used, now_s: noted.set())
        here.note_use(blob.id)
        async with asyncio.timeout(TIMEOUT_S):
            await noted.wait()


async def test_what_can_never_fit_is_refused_with_the_numbers_and_the_key(tmp_path: Path) -> None:
    blob = write_blob(tmp_path, 1, 3 * BLOB_BYTES)
    async with host(2) as h, worker(h) as here:
        with pytest.raises(
            ModelError, match=r"needs 3 MiB, the host model cache has 2\.01 MiB: raise worker\.host_mem"
        ):
            await here.get(blob, preload=True)
        assert h.reads == []


async def test_a_long_read_tells_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpu_worker.host_cache.blob_file._CHUNK_BYTES", BLOB_BYTES // 4)
    blob, heard = write_blob(tmp_path, 1), list[int]()
    async with host(1) as h, worker(h) as here:
        assert await here.acquire(blob, preload=False, on_progress=heard.append) is not None
    assert heard == sorted(heard) and len(heard) >= 4 and heard[-1] == BLOB_BYTES


async def test_who_does_not_wait_any_more_gets_nothing(tmp_path: Path) -> None:
    gate, blob, other = Gate(), write_blob(tmp_path, 1), write_blob(tmp_path, 2)
    async with host(1, gate=gate) as h, worker(h) as here:
        asking = asyncio.create_task(here.get(blob))
        behind = asyncio.create_task(here.get(other))
        await gate.arrival()
        behind.cancel()
        asking.cancel()
        await asyncio.wait([asking, behind])
        gate.open()
        assert await here.get(blob) == blob.id
        assert h.reads == [blob.path]  # it was read for whoever comes next
        assert len(here._granted) == 1


async def test_a_second_copy_is_not_adopted(tmp_path: Path) -> None:
    """As when one worker reads a model again before another one has offered it to a new owner."""
    blob = write_blob(tmp_path, 1)
    async with host(1) as first, host(1) as second, worker(first) as here, worker(second) as there:
        assert await here.get(blob) == await there.get(blob) == blob.id
        here._reach = second
        for task in first.attending:
            task.cancel()
        async with asyncio.timeout(TIMEOUT_S):
            await here.asked_back.wait()
        assert await here.get(blob) == blob.id
        assert second.reads == [blob.path]


async def test_only_our_own_user_is_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        assert is_ours(ours)
        monkeypatch.setattr(os, "getuid", lambda: 12345678)
        assert not is_ours(ours)


async def test_a_reader_that_is_stuck_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpu_worker.host_cache.channel._MAX_UNSENT", 10)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        channel = Channel(ours, worker_decoder)
        receiving = asyncio.create_task(channel.receive())
        await asyncio.sleep(0)
        while not channel._closed:
            channel.send(Progress(1, 2))
        with pytest.raises(ChannelClosed):
            await receiving
        channel.close()
