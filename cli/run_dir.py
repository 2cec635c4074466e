"""The private folder of one running supervisor, removed with it.

    <temp>/kottos-run-XXXXXXXX/   mode 0700
        supervisor.lock           flock held for the supervisor's life: whoever gets it knows that it is dead

The kernel drops the lock however the supervisor ends; the next start removes folders whose lock is free.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "kottos-run-"
_LOCK = "supervisor.lock"


@contextlib.contextmanager
def run_dir(temp: Path | None = None) -> Iterator[Path]:
    """A new folder with mode 0700, after removing those of dead supervisors."""
    temp = temp or Path(tempfile.gettempdir())
    _remove_stale(temp)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=temp))
    try:
        with (folder / "new").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (folder / "new").rename(folder / _LOCK)  # others see it only once it is held
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def live_run_dirs(temp: Path | None = None) -> list[Path]:
    """Of this user's supervisors that run."""
    temp = temp or Path(tempfile.gettempdir())
    return sorted(folder for folder in temp.glob(f"{_PREFIX}*") if _is_ours(folder) and _is_alive(folder))


def _is_ours(folder: Path) -> bool:
    with contextlib.suppress(OSError):  # being removed
        return not folder.is_symlink() and folder.stat().st_uid == os.getuid()
    return False


def _is_alive(folder: Path) -> bool:
    try:
        with (folder / _LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _remove_stale(temp: Path) -> None:
    for folder in filter(_is_ours, temp.glob(f"{_PREFIX}*")):
        with contextlib.suppress(OSError), (folder / _LOCK).open("r+") as lock:  # being removed, or alive
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
