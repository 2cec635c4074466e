"""Complete or absent: files of the cache appear by one rename, under a lock that dies with its process."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_PREFIX: Final = ".unfinished-"


@contextmanager
def exclusive(folder: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """One process at a time writes below `folder`: a conversion may need most of the memory."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def workspace(folder: Path, name: str) -> Iterator[Path]:
    """A temporary folder inside `folder`; removes what interrupted processes left. The caller holds the lock."""
    for stale in folder.glob(f"{_PREFIX}*"):
        shutil.rmtree(stale)
    temporary = folder / f"{_PREFIX}{name}"
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def publish(finished: Path, target: Path) -> None:
    """Makes the folder `finished` appear as `target`, durably. A damaged `target` is replaced."""
    for path in (*finished.rglob("*"), finished):
        _sync(path)
    if target.exists():
        shutil.rmtree(target)
    finished.rename(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
