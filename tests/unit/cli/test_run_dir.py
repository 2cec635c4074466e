import os
import stat
from pathlib import Path

import pytest

from cli.run_dir import run_dir


def names(temp: Path) -> set[str]:
    return {path.name for path in temp.iterdir()}


def test_it_is_private_and_removed_at_the_end(tmp_path: Path) -> None:
    with run_dir(tmp_path) as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "sub").mkdir()
        (folder / "sub" / "file").touch()
    assert names(tmp_path) == set()


def test_it_is_removed_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), run_dir(tmp_path):
        raise RuntimeError
    assert names(tmp_path) == set()


def test_a_dead_supervisors_folder_goes_and_a_living_ones_stays(tmp_path: Path) -> None:
    dead = tmp_path / "kottos-run-dead"
    dead.mkdir()
    (dead / "supervisor.lock").touch()
    (dead / "broker.conf").touch()
    with run_dir(tmp_path) as living, run_dir(tmp_path) as second:
        assert names(tmp_path) == {living.name, second.name}


def test_what_is_not_a_run_folder_stays(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "supervisor.lock").touch()
    (tmp_path / "kottos-run-link").symlink_to(elsewhere)
    (tmp_path / "kottos-run-no-lock").mkdir()
    (tmp_path / "kottos-run-file").touch()
    before = names(tmp_path)
    with run_dir(tmp_path):
        pass
    assert names(tmp_path) == before
    assert os.listdir(elsewhere) == ["supervisor.lock"]
