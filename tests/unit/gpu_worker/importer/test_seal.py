"""Damage to a sealed folder shows."""

from pathlib import Path

import pytest

from gpu_worker.importer.seal import is_intact, seal


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "b").write_bytes(b"")
    seal(tmp_path)
    return tmp_path


def test_a_sealed_folder_is_intact_and_an_absent_one_not(sealed: Path) -> None:
    assert is_intact(sealed)
    assert not is_intact(sealed / "absent")


def test_other_sizes_absent_files_and_a_damaged_seal_show_always(sealed: Path) -> None:
    for name, content in (("a", b"1234"), ("checksums.json", b"{")):
        before = (sealed / name).read_bytes()
        (sealed / name).write_bytes(content)
        assert not is_intact(sealed)
        (sealed / name).write_bytes(before)
    (sealed / "b").unlink()
    assert not is_intact(sealed)


def test_contents_are_compared_once_without_the_marker(sealed: Path) -> None:
    (sealed / ".checked").unlink()
    assert is_intact(sealed)
    assert (sealed / ".checked").exists()
    (sealed / "a").write_bytes(b"54321")
    assert is_intact(sealed)  # the price of an instant start
    (sealed / ".checked").unlink()
    assert not is_intact(sealed)
    assert not (sealed / ".checked").exists()
