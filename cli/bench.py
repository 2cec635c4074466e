"""`kottos bench`: the benchmarks of the repository, each a process of its own."""

import importlib.util
import os
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from shared.errors import KottosError

BENCHMARKS: Final = (
    "switch",
    "throughput",
    "overhead",
    "streams",
    "fragmentation",
    "flatness",
    "goodput",
    "loop_share",
    "add_model",
    "micro_step",
    "plan",
    "tenants",
)


def run_benchmark(name: str, arguments: Sequence[str]) -> NoReturn:
    """Becomes `python -m benchmarks.<name>`. Raises KottosError where there is none."""
    if name not in BENCHMARKS:
        raise KottosError(f"no benchmark {name!r}; there are: {', '.join(BENCHMARKS)}")
    if importlib.util.find_spec(f"benchmarks.{name}") is None:
        raise KottosError("the benchmarks come with the repository, they are not installed here")
    os.execv(sys.executable, [sys.executable, "-m", f"benchmarks.{name}", *arguments])
