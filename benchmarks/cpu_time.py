"""What processes cost, read from /proc (proc_pid_stat(5))."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")


def tree_cpu_s(pid: int) -> float:
    """User and system time of the process and all its living descendants so far."""
    parents: dict[int, int] = {}
    cpu_s: dict[int, float] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            # pid (name, which may hold anything) state parent ...; utime and stime are fields 14 and 15
            fields = path.read_text().rpartition(")")[2].split()
            parents[int(path.parent.name)] = int(fields[1])
            cpu_s[int(path.parent.name)] = (int(fields[11]) + int(fields[12])) * _TICK_S
    tree = [pid]
    for ancestor in tree:  # grows while it is walked
        tree += [child for child, parent in parents.items() if parent == ancestor]
    return sum(cpu_s.get(each, 0.0) for each in tree)
