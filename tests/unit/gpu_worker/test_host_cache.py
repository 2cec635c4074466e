import os
from pathlib import Path

import pytest
import torch

from gpu_worker.host_cache import HostCache, map_blob
from shared.errors import ConfigError, ModelError
from shared.ids import ModelName

A, B, C = ModelName("a"), ModelName("b"), ModelName("c")


def blob(num_bytes: int) -> torch.Tensor:
    return torch.zeros(num_bytes, dtype=torch.uint8)


def memory_bytes() -> tuple[int, int]:
    """This process's own memory, and what it shares with files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    sizes = {line.partition(":")[0]: int(line.split()[1]) << 10 for line in lines if line.startswith("Rss")}
    return sizes["RssAnon"], sizes["RssFile"] + sizes["RssShmem"]


def test_the_least_recently_used_go_until_there_is_room() -> None:
    cache = HostCache(10)
    for model in (A, B, C):
        assert cache.make_room(3) == []
        cache.put(model, blob(3))
    assert cache.get(A) is not None
    assert not cache.has_room(2)
    assert cache.make_room(5) == [B, C]
    assert (A in cache, B in cache, cache.get(C), cache.used_bytes) == (True, False, None, 3)


def test_what_just_fits_evicts_nothing() -> None:
    cache = HostCache(10)
    cache.put(A, blob(4))
    assert cache.has_room(6)
    assert cache.make_room(6) == []
    assert not cache.has_room(7)


def test_a_model_that_can_never_fit_is_refused_with_the_numbers_and_the_key() -> None:
    cache = HostCache(10)
    cache.check_fits(A, 10)
    with pytest.raises(ConfigError, match=r"'a' needs 11 bytes .* has 10: raise worker\.host_memory_bytes"):
        cache.check_fits(A, 11)


def test_a_mapped_blob_is_the_file(tmp_path: Path) -> None:
    content = os.urandom(10_001)
    (tmp_path / "weights.bin").write_bytes(content)
    mapped = map_blob(tmp_path / "weights.bin", len(content))
    assert (mapped.dtype, mapped.numpy().tobytes()) == (torch.uint8, content)
    assert mapped.data_ptr() % 4096 == 0


def test_a_mapped_blob_is_in_memory_and_shared_with_other_processes(tmp_path: Path) -> None:
    num_bytes = 32 << 20
    (tmp_path / "weights.bin").write_bytes(bytes(num_bytes))
    own_before, shared_before = memory_bytes()
    mapped = map_blob(tmp_path / "weights.bin", num_bytes)
    own_after, shared_after = memory_bytes()
    assert shared_after - shared_before > 0.9 * mapped.numel()
    assert own_after - own_before < 0.1 * mapped.numel()


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"weights\.bin can't be read: No such file"):
        map_blob(tmp_path / "weights.bin", 10)
    (tmp_path / "weights.bin").write_bytes(b"short")
    with pytest.raises(ModelError, match=r"weights\.bin has 5 bytes where its manifest says 10"):
        map_blob(tmp_path / "weights.bin", 10)
