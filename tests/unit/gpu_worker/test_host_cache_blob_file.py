"""Files become sealed memory, whole and right, or are refused by name."""

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gpu_worker.host_cache import blob_file
from gpu_worker.host_cache.blob_file import is_sealed, read_blob
from gpu_worker.host_cache.protocol import BlobId, BlobSpec
from shared.errors import ModelError

CHUNK = 4096


@pytest.fixture
def blob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BlobSpec:
    """Of ten chunks and a bit."""
    monkeypatch.setattr(blob_file, "_CHUNK_BYTES", CHUNK)
    content = os.urandom(10 * CHUNK + 100)
    (tmp_path / "weights.bin").write_bytes(content)
    return BlobSpec(BlobId(hashlib.sha256(content).hexdigest()), len(content), str(tmp_path / "weights.bin"))


def read(blob: BlobSpec, report: Callable[[int], None] = lambda done_bytes: None) -> bytes:
    descriptor = read_blob(blob, report, threading.Event())
    try:
        return os.pread(descriptor, blob.num_bytes + 1, 0)
    finally:
        os.close(descriptor)


def overwrite(blob: BlobSpec, content: bytes) -> None:
    """In place, with the old time of modification."""
    path = Path(blob.path)
    stat = path.stat()
    with path.open("r+b") as file:
        file.seek(5 * CHUNK)
        file.write(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def num_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_every_byte_arrives_and_progress_is_told(blob: BlobSpec) -> None:
    done: list[int] = []
    assert read(blob, done.append) == Path(blob.path).read_bytes()
    assert done == [*range(CHUNK, 11 * CHUNK, CHUNK), blob.num_bytes]


def test_nobody_can_change_it_any_more(blob: BlobSpec) -> None:
    descriptor = read_blob(blob, lambda done_bytes: None, threading.Event())
    assert is_sealed(descriptor, blob.num_bytes) and not is_sealed(descriptor, blob.num_bytes + 1)
    for change in (
        lambda: os.pwrite(descriptor, b"x", 0),
        lambda: os.ftruncate(descriptor, 1),
        lambda: os.ftruncate(descriptor, 1 << 20),
    ):
        with pytest.raises(PermissionError):
            change()
    os.close(descriptor)


def test_other_files_are_not_sealed(blob: BlobSpec) -> None:
    with Path(blob.path).open("rb") as file:
        assert not is_sealed(file.fileno(), blob.num_bytes)


def test_a_file_is_checked_once_for_each_of_its_states(blob: BlobSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    digests: list[object] = []

    def sha256(data: bytes = b"", original: Callable[[bytes], object] = hashlib.sha256) -> object:
        digests.append(original(data))
        return digests[-1]

    read(blob)
    monkeypatch.setattr(blob_file.hashlib, "sha256", sha256)
    read(blob)
    assert digests == []
    overwrite(blob, b"")
    read(blob)
    assert len(digests) == 1


def test_a_change_after_the_check_is_found(blob: BlobSpec) -> None:
    read(blob)
    overwrite(blob, b"corrupt")
    with pytest.raises(ModelError, match=rf"{blob.path} is corrupt: its SHA-256 is [0-9a-f]+, .* says {blob.id}"):
        read(blob)


def test_a_marker_that_makes_no_sense_counts_for_nothing(blob: BlobSpec) -> None:
    (Path(blob.path).parent / "weights.verified").write_text("{")
    overwrite(blob, b"corrupt")
    with pytest.raises(ModelError, match="is corrupt"):
        read(blob)


def test_bad_files_leave_no_memory(blob: BlobSpec) -> None:
    before = num_descriptors()
    overwrite(blob, b"corrupt")
    with pytest.raises(ModelError, match="is corrupt"):
        read(blob)
    os.truncate(blob.path, 3)
    with pytest.raises(ModelError, match=f"has 3 bytes where its manifest says {blob.num_bytes}"):
        read(blob)
    Path(blob.path).unlink()
    with pytest.raises(ModelError, match="can't be read: No such file"):
        read(blob)
    assert num_descriptors() == before


def test_a_file_that_shrinks_while_it_is_read_is_refused(blob: BlobSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_file, "_NUM_THREADS", 1)
    memfd_create = os.memfd_create

    def create(name: str, flags: int) -> int:
        os.truncate(blob.path, 6 * CHUNK)
        return memfd_create(name, flags)

    monkeypatch.setattr(os, "memfd_create", create)
    with pytest.raises(ModelError, match=f"ends after {6 * CHUNK} bytes where its manifest says {blob.num_bytes}"):
        read(blob)


def test_reading_stops_when_told(blob: BlobSpec) -> None:
    stopping = threading.Event()
    before = num_descriptors()
    with pytest.raises(ModelError, match="was not read"):
        stopping.set()
        read_blob(blob, lambda done_bytes: None, stopping)
    assert num_descriptors() == before
