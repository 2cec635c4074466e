"""The cache holds complete folders or none."""

import fcntl
from pathlib import Path

import pytest

from gpu_worker.importer.staging import exclusive, publish, workspace


def test_published_folder_appears_whole_and_workspace_goes(tmp_path: Path) -> None:
    with workspace(tmp_path, "m") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text("text")
        assert not (tmp_path / "m").exists()
        publish(folder, tmp_path / "m")
    assert (tmp_path / "m" / "inner" / "file").read_text() == "text"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), workspace(tmp_path, "m") as folder:
        (folder / "file").touch()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_goes_with_the_next(tmp_path: Path) -> None:
    killed = workspace(tmp_path, "killed")
    (killed.__enter__() / "file").touch()
    (tmp_path / "published").mkdir()
    with workspace(tmp_path, "next") as folder:
        assert set(tmp_path.iterdir()) == {folder, tmp_path / "published"}


def test_a_damaged_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "old").touch()
    with workspace(tmp_path, "m") as folder:
        (folder / "new").touch()
        publish(folder, tmp_path / "m")
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["new"]


def test_second_holder_waits_and_says_so(tmp_path: Path) -> None:
    with exclusive(tmp_path, lambda: None):
        other = (tmp_path / ".lock").open("w")
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    said: list[str] = []

    def release() -> None:
        said.append("waiting")
        other.close()

    with exclusive(tmp_path, release):
        assert said == ["waiting"]
