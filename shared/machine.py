"""What this process may use of its machine: the least of hardware, affinity and cgroup limits (v1 and v2).

cgroup v2: Linux Documentation/admin-guide/cgroup-v2.rst (memory.max, cpu.max); v1: cgroup-v1/memory.rst, sched-bwc.rst.
"""

import os
import platform
from collections.abc import Iterator
from pathlib import Path

_MOUNT = Path("sys/fs/cgroup")


def memory_limit_bytes(root: Path = Path("/")) -> int:
    """Bytes of memory that this process can have."""
    physical_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [_read(folder / "memory.max") for folder in _folders(root, "")]
    limits += [_read(folder / "memory.limit_in_bytes") for folder in _folders(root, "memory")]
    return min([physical_bytes, *(int(limit) for limit in limits if limit.isdigit())])


def num_cores(root: Path = Path("/")) -> int:
    """Whole cores that this process can keep busy, at least 1."""
    quotas = [_read(folder / "cpu.max").split() for folder in _folders(root, "")]
    quotas += [
        [_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")] for folder in _folders(root, "cpu")
    ]
    # "max" (v2), -1 (v1) and absent files mean no quota
    cores = [int(q[0]) // int(q[1]) for q in quotas if len(q) == 2 and q[0].isdigit() and q[1].isdigit() and int(q[1])]
    return max(1, min([len(os.sched_getaffinity(0)), *cores]))


def cpu_name(root: Path = Path("/")) -> str:
    """As the maker calls it; else the architecture."""
    for line in _read(root / "proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """This process's cgroup and its ancestors; "" is the v2 hierarchy. Each of them limits.

    In a container /proc names the path seen from the host, which may not exist here: the mount point is then the limit.
    """
    mounts = [_MOUNT / controller] if controller else [_MOUNT, _MOUNT / "unified"]
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            for mount in mounts:
                folder = root / mount / path.strip("/")
                yield from (folder, *(parent for parent in folder.parents if parent.is_relative_to(root / mount)))


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
