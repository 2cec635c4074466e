"""Reads an imported blob into a sealed memfd: in parallel chunks, its checksum on the way.

Checksums cost more than reading (SHA-256 1.2 GB/s, reading from the page cache 2.4 GB/s on one machine), and the
importer has computed them from what it wrote. So a file is checked once: a marker beside it tells which state of the
file was found right, and any write to the file makes another state of it.
"""

import fcntl
import hashlib
import mmap
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

import msgspec

from gpu_worker.host_cache.protocol import BlobSpec
from shared.errors import ModelError

_CHUNK_BYTES: Final = 16 << 20
_NUM_THREADS: Final = 4
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_MARKER: Final = "weights.verified"


class _FileState(msgspec.Struct, frozen=True):
    """Changes with each write: nobody can set a ctime."""

    sha256: str
    num_bytes: int
    inode: int
    ctime_ns: int


def read_blob(blob: BlobSpec, report: Callable[[int], None], stopping: threading.Event) -> int:
    """Blocks -> the memfd's descriptor, the caller's to close. `report` hears how many bytes are there.

    Raises ModelError that names the file, also when `stopping` is set meanwhile.
    """
    path = Path(blob.path)
    with ExitStack() as on_error:
        try:
            with path.open("rb", buffering=0) as file:
                state = _state(blob, file.fileno())
                if state.num_bytes != blob.num_bytes or not blob.num_bytes:
                    raise ModelError(f"{path} has {state.num_bytes} bytes where its manifest says {blob.num_bytes}")
                memfd = os.memfd_create(f"kottos-{blob.id[:16]}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
                on_error.callback(os.close, memfd)
                os.ftruncate(memfd, blob.num_bytes)
                digest = None if _read_marker(path) == state else hashlib.sha256()
                _fill(memfd, file.fileno(), blob, report, stopping, digest)
        except OSError as error:
            raise ModelError(f"{path} can't be read: {error.strerror}") from error
        if digest is not None:
            if digest.hexdigest() != blob.id:
                raise ModelError(f"{path} is corrupt: its SHA-256 is {digest.hexdigest()}, its manifest says {blob.id}")
            _write_marker(path, state)
        fcntl.fcntl(memfd, fcntl.F_ADD_SEALS, _SEALS)
        on_error.pop_all()
    return memfd


def is_sealed(descriptor: int, num_bytes: int) -> bool:
    """Whether it is a blob of this size that nobody can change."""
    with suppress(OSError):  # another kind of file
        return fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) == _SEALS and os.fstat(descriptor).st_size == num_bytes
    return False


def _fill(
    memfd: int,
    file: int,
    blob: BlobSpec,
    report: Callable[[int], None],
    stopping: threading.Event,
    digest: "hashlib._Hash | None",
) -> None:
    def read(start: int) -> int:
        end = min(start + _CHUNK_BYTES, blob.num_bytes)
        done = start
        while done < end:
            if stopping.is_set():
                raise ModelError(f"{blob.path} was not read: the host model cache stops")
            num_read = os.preadv(file, [target[done:end]], done)
            if num_read == 0:
                raise ModelError(f"{blob.path} ends after {done} bytes where its manifest says {blob.num_bytes}")
            done += num_read
        return end

    with (
        mmap.mmap(memfd, blob.num_bytes) as mapping,
        memoryview(mapping) as target,
        ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="read") as threads,
    ):
        start = 0
        for end in threads.map(read, range(0, blob.num_bytes, _CHUNK_BYTES)):
            if digest is not None:
                digest.update(target[start:end])
            report(end)
            start = end


def _state(blob: BlobSpec, file: int) -> _FileState:
    stat = os.fstat(file)
    return _FileState(blob.id, stat.st_size, stat.st_ino, stat.st_ctime_ns)


def _read_marker(path: Path) -> _FileState | None:
    with suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode((path.parent / _MARKER).read_bytes(), type=_FileState)
    return None


def _write_marker(path: Path, state: _FileState) -> None:
    with suppress(OSError):  # a folder that is not ours to write: it is checked each time
        temporary = path.parent / f"{_MARKER}.{os.getpid()}"
        temporary.write_bytes(msgspec.json.encode(state))
        temporary.rename(path.parent / _MARKER)
