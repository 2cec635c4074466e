"""Watching processes that need not be our children, without polling."""

import asyncio
import os
import select
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Watched:
    """A process seen through a pidfd, which becomes readable when it ends (pidfd_open(2))."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.fd = os.pidfd_open(pid)

    def is_alive(self) -> bool:
        return not select.select([self.fd], [], [], 0)[0]

    async def wait_end(self, timeout_s: float = 10.0) -> None:
        """Raises TimeoutError."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(self.fd, ended.set)
        try:
            await asyncio.wait_for(ended.wait(), timeout_s)
        finally:
            loop.remove_reader(self.fd)


@contextmanager
def watch(*pids: int) -> Iterator[list[Watched]]:
    watched = [Watched(pid) for pid in pids]
    try:
        yield watched
    finally:
        for process in watched:
            os.close(process.fd)


def descendants(pid: int) -> list[int]:
    """Children, their children and so on, as /proc has them now."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            # pid (name, which may hold anything) state parent ...: proc_pid_stat(5)
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for ancestor in found:  # grows while it is walked
        found += [child for child, parent in parents.items() if parent == ancestor]
    return found[1:]
