import os
from pathlib import Path

import pytest

from shared import machine


@pytest.fixture(autouse=True)
def sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))


def write(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_without_cgroups_the_hardware_decides(tmp_path: Path) -> None:
    physical_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert machine.memory_limit_bytes(tmp_path) == physical_bytes
    assert machine.num_cores(tmp_path) == 16


def test_the_processor_has_the_makers_name(tmp_path: Path) -> None:
    write(tmp_path, "proc/cpuinfo", "processor\t: 0\nmodel name\t: Fast: CPU 9\n\nmodel name\t: Other\n")
    assert machine.cpu_name(tmp_path) == "Fast: CPU 9"


def test_the_tightest_ancestor_decides_in_v2(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", "0::/pod/container\n")
    write(tmp_path, "sys/fs/cgroup/pod/memory.max", "3000000\n")
    write(tmp_path, "sys/fs/cgroup/pod/cpu.max", "350000 100000\n")
    write(tmp_path, "sys/fs/cgroup/pod/container/memory.max", "max\n")
    write(tmp_path, "sys/fs/cgroup/pod/container/cpu.max", "max 100000\n")
    assert machine.memory_limit_bytes(tmp_path) == 3_000_000
    assert machine.num_cores(tmp_path) == 3


def test_a_v1_container_that_sees_its_limits_at_the_mount_point(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", "5:memory:/host/path\n3:cpu,cpuacct:/host/path\n")
    write(tmp_path, "sys/fs/cgroup/memory/memory.limit_in_bytes", "2000000\n")
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n")
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert machine.memory_limit_bytes(tmp_path) == 2_000_000
    assert machine.num_cores(tmp_path) == 1  # half a core is still one thread


def test_v1_without_limits(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", "5:memory:/\n3:cpu:/\n")
    write(tmp_path, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert machine.memory_limit_bytes(tmp_path) < 9223372036854771712
    assert machine.num_cores(tmp_path) == 16
