"""What processes cost, read from /proc (proc_pid_stat(5))."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from benchmarks.processes import descendants

_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")


def tree_cpu_s(pid: int) -> float:
    """User and system time of the process and all its living descendants so far."""
    cpu_s = 0.0
    for each in descendants(pid):
        with suppress(OSError):  # it ended meanwhile
            # pid (name, which may hold anything) state ...; utime and stime are fields 14 and 15
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            cpu_s += (int(fields[11]) + int(fields[12])) * _TICK_S
    return cpu_s
