import os
from pathlib import Path

import pytest
import torch

from gpu_worker.host_cache import mapping
from gpu_worker.host_cache.mapping import as_tensor, map_blob, map_private, populate
from shared.errors import ModelError


def memory_bytes() -> tuple[int, int]:
    """This process's own memory, and what it shares with files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    sizes = {line.partition(":")[0]: int(line.split()[1]) << 10 for line in lines if line.startswith("Rss")}
    return sizes["RssAnon"], sizes["RssFile"] + sizes["RssShmem"]


def test_a_mapped_blob_is_the_file(tmp_path: Path) -> None:
    content = os.urandom(10_001)
    (tmp_path / "weights.bin").write_bytes(content)
    mapped = map_blob(tmp_path / "weights.bin", len(content))
    assert (mapped.dtype, mapped.numpy().tobytes()) == (torch.uint8, content)
    assert mapped.data_ptr() % 4096 == 0


@pytest.mark.parametrize("advice", [mapping._MADV_POPULATE_READ, 1 << 30], ids=["populated", "touched"])
def test_a_mapped_blob_is_in_memory_and_shared_with_other_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, advice: int
) -> None:
    monkeypatch.setattr(mapping, "_MADV_POPULATE_READ", advice)
    monkeypatch.setattr(mapping, "_SLICE_BYTES", 10 << 20)
    num_bytes = 32 << 20
    (tmp_path / "weights.bin").write_bytes(bytes(num_bytes))
    own_before, shared_before = memory_bytes()
    mapped = map_blob(tmp_path / "weights.bin", num_bytes)
    own_after, shared_after = memory_bytes()
    assert shared_after - shared_before > 0.9 * mapped.numel()
    assert own_after - own_before < 0.1 * mapped.numel()


def test_a_memfd_is_mapped_without_a_copy_and_writes_stay_private() -> None:
    descriptor = os.memfd_create("kottos-test")
    try:
        os.write(descriptor, b"abcdef")
        region = map_private(descriptor, 6)
        populate(region)
        tensor = as_tensor(region)
        assert bytes(tensor.tolist()) == b"abcdef"
        tensor[0] = ord("x")
        assert os.pread(descriptor, 6, 0) == b"abcdef"
    finally:
        os.close(descriptor)


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"weights\.bin can't be read: No such file"):
        map_blob(tmp_path / "weights.bin", 10)
    (tmp_path / "weights.bin").write_bytes(b"short")
    with pytest.raises(ModelError, match=r"weights\.bin has 5 bytes where its manifest says 10"):
        map_blob(tmp_path / "weights.bin", 10)
