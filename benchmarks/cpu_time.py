"""What processes cost, read from /proc (proc_pid_stat(5))."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from benchmarks.processes import descendants

_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")


def process_cpu_s(pid: int) -> float:
    """User and system time of the process so far. Raises OSError where it has ended."""
    # pid (name, which may hold anything) state ...; utime and stime are fields 14 and 15
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def tree_cpu_s(pid: int) -> float:
    """The same of all its living descendants, too."""
    cpu_s = 0.0
    for each in descendants(pid):
        with suppress(OSError):  # it ended meanwhile
            cpu_s += process_cpu_s(each)
    return cpu_s
