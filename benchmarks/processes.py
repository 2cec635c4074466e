"""Processes of this machine as /proc shows them (proc(5))."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True)
class ProcessSize:
    rss_bytes: int  # all its pages in memory
    pss_bytes: int  # shared ones divided by those who share them
    num_threads: int
    num_descriptors: int


def descendants(pid: int) -> list[int]:
    """The process, and all that come from it and live."""
    children: dict[int, list[int]] = {}
    for path in _PROC.glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            # pid (name, which may hold anything) state parent ...
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    tree = [pid]
    for ancestor in tree:  # grows while it is walked
        tree += children.get(ancestor, [])
    return tree


def command_line(pid: int) -> list[str]:
    """Empty where it has ended."""
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def size_of(pid: int) -> ProcessSize:
    """Raises OSError where it has ended."""
    folder = _PROC / str(pid)
    fields = dict(line.split(":", 1) for line in (folder / "smaps_rollup").read_text().splitlines()[1:])
    return ProcessSize(
        rss_bytes=int(fields["Rss"].split()[0]) << 10,
        pss_bytes=int(fields["Pss"].split()[0]) << 10,
        num_threads=len(os.listdir(folder / "task")),
        num_descriptors=len(os.listdir(folder / "fd")),
    )
