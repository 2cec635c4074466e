"""The host model cache as a process: real sockets, real memfds, workers that come, go and die."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gpu_worker.host_cache.policy import whole_pages
from gpu_worker.host_cache.protocol import BlobSpec
from gpu_worker.host_cache.reach import ChildReach
from shared.config import Config, WorkerConfig
from shared.errors import ModelError
from tests.integration.host_cache_harness import (
    BLOB_BYTES,
    TIMEOUT_S,
    corrupt,
    held_memfds,
    mapped_inodes,
    owner_process,
    removed,
    truncated,
    worker,
    write_blob,
)
from tests.processes import descendants, watch

BLOB_MEMORY = whole_pages(BLOB_BYTES)

# A worker without torch: maps what it is given, says so, and waits to be killed.
OTHER_WORKER = """
import asyncio, mmap, pathlib, sys
from gpu_worker.host_cache.channel import Channel, cache_decoder, connect
from gpu_worker.host_cache.protocol import Acquire, BlobSpec, Granted
async def main(socket, id, num_bytes, path):
    channel = Channel(connect(pathlib.Path(socket)), cache_decoder)
    channel.send(Acquire(1, BlobSpec(id, int(num_bytes), path), False))
    message, descriptor = await channel.receive()
    mapping = mmap.mmap(descriptor, int(num_bytes), flags=mmap.MAP_PRIVATE)
    print(message == Granted(1), mapping[:4].hex(), flush=True)
    await asyncio.Event().wait()
asyncio.run(main(*sys.argv[1:]))
"""


async def test_workers_share_one_copy_of_the_right_size(tmp_path: Path) -> None:
    blob, socket = write_blob(tmp_path, 1), tmp_path / "socket"
    async with owner_process(socket, 1 << 30) as owner, worker(socket) as first, worker(socket) as second:
        assert await first.get(blob) == blob.id
        assert await second.get(blob) == blob.id
        inodes = mapped_inodes(blob)
        assert len(inodes) == 2 and len(set(inodes)) == 1
        assert held_memfds(owner.pid) == [(blob.id[:16], BLOB_MEMORY)]
        assert socket.stat().st_mode & 0o777 == 0o600


async def test_a_killed_worker_gives_back_what_it_had(tmp_path: Path) -> None:
    first, second, socket = write_blob(tmp_path, 1), write_blob(tmp_path, 2), tmp_path / "socket"
    async with owner_process(socket, BLOB_MEMORY) as owner, worker(socket) as here:
        assert await here.get(first) == first.id
        command = [sys.executable, "-c", OTHER_WORKER, str(socket), first.id, str(first.num_bytes), first.path]
        other = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        assert other.stdout is not None
        assert (await other.stdout.readline()).decode().split() == ["True", here.blobs[first.id][:4].numpy().data.hex()]
        here.blobs.clear()
        asking = asyncio.create_task(here.get(second))
        other.kill()  # it would not have answered
        await other.wait()
        assert await asking == second.id
        assert held_memfds(owner.pid) == [(second.id[:16], BLOB_MEMORY)]
        assert mapped_inodes(first) == []


async def test_bad_files_are_named_and_others_are_well(tmp_path: Path) -> None:
    bad = [damage(write_blob(tmp_path, seed)) for seed, damage in enumerate((corrupt, truncated, removed))]
    reasons = [
        "is corrupt: its SHA-256 is",
        f"has {BLOB_BYTES - 1} bytes where its manifest says {BLOB_BYTES}",
        "can't be read: No such file",
    ]
    good, socket = write_blob(tmp_path, 9), tmp_path / "socket"
    async with owner_process(socket, 1 << 30) as owner, worker(socket) as here:
        for blob, reason in zip(bad, reasons, strict=True):
            with pytest.raises(ModelError, match=f"{blob.path} {reason}"):
                await here.get(blob)
        assert await here.get(good) == good.id
        assert held_memfds(owner.pid) == [(good.id[:16], BLOB_MEMORY)]


async def test_an_owner_started_again_takes_over_what_workers_have(tmp_path: Path) -> None:
    blob, other, socket = write_blob(tmp_path, 1), write_blob(tmp_path, 2), tmp_path / "socket"
    async with worker(socket) as here:
        async with owner_process(socket, 2 * BLOB_MEMORY) as owner:
            assert await here.get(blob) == blob.id
            owner.kill()
        [inode] = mapped_inodes(blob)
        removed(blob)  # nobody can read it again
        asking = asyncio.create_task(here.get(other))
        async with owner_process(socket, 2 * BLOB_MEMORY) as owner, worker(socket) as late:
            assert await asking == other.id
            assert await late.get(blob) == blob.id
            assert set(mapped_inodes(blob)) == {inode}
            assert held_memfds(owner.pid) == sorted([(b.id[:16], BLOB_MEMORY) for b in (blob, other)])


def owners_of(blob: BlobSpec) -> list[int]:
    """Our descendants that hold it, by process."""
    return [pid for pid in descendants(os.getpid()) if blob.id[:16] in (name for name, _ in held_memfds(pid))]


async def test_a_worker_alone_has_an_owner_that_is_replaced_and_ends_with_it(tmp_path: Path) -> None:
    blob, other = write_blob(tmp_path, 1), write_blob(tmp_path, 2)
    config = Config(worker=WorkerConfig(host_memory_bytes=2 * BLOB_MEMORY, kv_memory_bytes=16 << 20))
    async with worker(ChildReach(config)) as here:
        assert await here.get(blob) == blob.id
        [child] = owners_of(blob)
        os.kill(child, signal.SIGKILL)
        assert await here.get(other) == other.id
        [child] = owners_of(other)
        assert len(held_memfds(child)) == 2
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


async def test_a_killed_worker_takes_its_owner_with_it() -> None:
    script = """
import asyncio
from gpu_worker.host_cache.reach import ChildReach
from shared.config import Config
async def main():
    reach = ChildReach(Config())
    connection = await reach.connect()
    print(reach._child.pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    alone = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=subprocess.PIPE)
    assert alone.stdout is not None
    with watch(int(await alone.stdout.readline())) as [child]:
        alone.kill()
        await alone.wait()
        await child.wait_end()


async def test_it_ends_when_told_and_leaves_no_socket(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 40)  # an address has room for 107 bytes
    folder.mkdir()
    async with owner_process(folder / "socket", 1 << 30) as owner, worker(folder / "socket") as here:
        blob = write_blob(tmp_path, 1)
        assert await here.get(blob) == blob.id
        owner.terminate()
        async with asyncio.timeout(TIMEOUT_S):
            assert await owner.wait() == 0
        assert list(folder.iterdir()) == []


async def test_a_second_one_on_the_same_path_refuses(tmp_path: Path) -> None:
    blob, socket = write_blob(tmp_path, 1), tmp_path / "socket"
    async with owner_process(socket, 1 << 30), worker(socket) as here:
        assert await here.get(blob) == blob.id
        async with owner_process(socket, 1 << 30) as second:
            _, log = await second.communicate()
        assert (second.returncode, f"a host model cache runs at {socket} already" in log.decode()) == (2, True)
        async with worker(socket) as late:
            assert await late.get(blob) == blob.id
