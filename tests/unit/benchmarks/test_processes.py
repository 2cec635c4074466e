import mmap
import os
import subprocess
import sys

from benchmarks.processes import command_line, descendants, size_of


def test_descendants_are_found_and_named() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        tree = descendants(os.getpid())
        assert (tree[0], child.pid in tree) == (os.getpid(), True)
        assert command_line(child.pid)[1:] == ["-c", "input()"]
    assert child.pid not in descendants(os.getpid())
    assert command_line(1 << 30) == []


def test_sizes_are_those_of_the_kernel() -> None:
    before = size_of(os.getpid())
    ballast = mmap.mmap(-1, 32 << 20)  # not what an earlier test gave back to the heap
    ballast.write(b"x" * len(ballast))
    opened = os.open(os.devnull, os.O_RDONLY)
    after = size_of(os.getpid())
    os.close(opened)
    assert after.rss_bytes - before.rss_bytes > len(ballast) * 0.9
    assert after.pss_bytes <= after.rss_bytes
    assert after.num_descriptors == before.num_descriptors + 1
