"""Blob files, a host model cache as a process, and workers' ends of it."""

import asyncio
import contextlib
import hashlib
import os
import random
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

from torch import Tensor

from gpu_worker.host_cache.client import HostCacheClient
from gpu_worker.host_cache.protocol import BlobId, BlobSpec
from gpu_worker.host_cache.reach import Reach, SocketReach

TIMEOUT_S = 20.0
BLOB_BYTES = (1 << 20) + 64


def write_blob(folder: Path, seed: int, num_bytes: int = BLOB_BYTES) -> BlobSpec:
    content = random.Random(seed).randbytes(num_bytes)
    (folder / str(seed)).mkdir(parents=True)
    path = folder / str(seed) / "weights.bin"
    path.write_bytes(content)
    return BlobSpec(BlobId(hashlib.sha256(content).hexdigest()), num_bytes, str(path))


def corrupt(blob: BlobSpec) -> BlobSpec:
    with Path(blob.path).open("r+b") as file:
        file.seek(blob.num_bytes // 2)
        file.write(b"corrupt")
    return blob


def truncated(blob: BlobSpec) -> BlobSpec:
    os.truncate(blob.path, blob.num_bytes - 1)
    return blob


def removed(blob: BlobSpec) -> BlobSpec:
    Path(blob.path).unlink()
    return blob


def digest(tensor: Tensor | None) -> str:
    assert tensor is not None
    return hashlib.sha256(tensor.numpy().data).hexdigest()


def mapped_inodes(blob: BlobSpec) -> list[int]:
    """Of each mapping in this process."""
    maps = Path("/proc/self/maps").read_text()
    return [int(inode) for inode in re.findall(rf"(\d+) +/memfd:kottos-{blob.id[:16]}", maps)]


def held_memfds(pid: int) -> list[tuple[str, int]]:
    """Name and bytes of each that a process has open."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if (target := os.readlink(link)).startswith("/memfd:kottos-"):
                found.append((target.partition("-")[2].split()[0], link.stat().st_blocks * 512))
    return sorted(found)


class Worker(HostCacheClient):
    """Lets go at once unless it `keeps`."""

    def __init__(self, reach: Reach) -> None:
        super().__init__(reach)
        self.blobs: dict[BlobId, Tensor] = {}
        self.keeps = False
        self.asked_back = asyncio.Event()

    async def get(self, blob: BlobSpec, *, preload: bool = False) -> str | None:
        """Maps it; returns the digest of what is mapped."""
        async with asyncio.timeout(TIMEOUT_S):
            tensor = await self.acquire(blob, preload=preload)
        if tensor is None:
            return None
        self.blobs[blob.id] = tensor
        return digest(tensor)

    def on_asked(self, blob: BlobId) -> None:
        self.asked_back.set()
        if not self.keeps:
            self.blobs.pop(blob, None)


@contextlib.asynccontextmanager
async def worker(reach: Reach | Path) -> AsyncIterator[Worker]:
    client = Worker(SocketReach(reach) if isinstance(reach, Path) else reach)
    running = asyncio.create_task(client.run(client.on_asked))
    try:
        yield client
    finally:
        client.blobs.clear()
        await asyncio.sleep(0)  # mappings that are gone say so
        running.cancel()
        await asyncio.wait([running])


def owner_command() -> list[str]:
    return [sys.executable, "-m", "gpu_worker.host_cache"]


def owner_environ(socket: Path, host_memory_bytes: int) -> dict[str, str]:
    """Nothing of our own settings is in it."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("KOTTOS_")}
    return environ | {
        "KOTTOS_WORKER_HOST_CACHE_SOCKET": str(socket),
        "KOTTOS_WORKER_HOST_MEMORY": str(host_memory_bytes),
        "KOTTOS_WORKER_KV_MEMORY": "16MiB",
    }


@contextlib.asynccontextmanager
async def owner_process(socket: Path, host_memory_bytes: int) -> AsyncIterator[Process]:
    """It may not listen yet."""
    environ = owner_environ(socket, host_memory_bytes)
    process = await asyncio.create_subprocess_exec(*owner_command(), env=environ, stderr=PIPE)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()
