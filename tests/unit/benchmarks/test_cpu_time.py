import os
import time

from benchmarks.cpu_time import tree_cpu_s


def test_it_counts_what_this_process_burns() -> None:
    before_s, own_s = tree_cpu_s(os.getpid()), time.process_time()
    while time.process_time() - own_s < 0.05:  # five ticks
        pass
    assert tree_cpu_s(os.getpid()) - before_s >= 0.03
    assert tree_cpu_s(1 << 30) == 0.0  # nobody
