"""The benchmarks of the repository, each a process of its own."""

import importlib.util
import os
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from shared.errors import KottosError

# and what each measures
BENCHMARKS: Final = {
    "switch": "Changing models: from each place where weights may lie.",
    "throughput": "Streams together, beside transformers' generate.",
    "overhead": "What gateway, NATS and router add to a first token.",
    "streams": "A gateway with thousands of streams.",
    "fragmentation": "KV memory that lies idle inside slabs.",
    "flatness": "Memory over many requests and switches.",
    "goodput": "The load with 90 % of the tokens on time, of each policy.",
    "loop_share": "The token loop's share of a step.",
    "feed": "What a viewer of the live feed costs.",
    "add_model": "Streams while another model is added.",
    "micro_step": "A decode step, part by part.",
    "plan": "Planning a step.",
    "tenants": "What a flood costs other tenants.",
    "telemetry": "What traces and metrics take from throughput.",
}


def run_benchmark(name: str, arguments: Sequence[str]) -> NoReturn:
    """Becomes `python -m benchmarks.<name>`. Raises KottosError where there is none."""
    if importlib.util.find_spec(f"benchmarks.{name}") is None:
        raise KottosError("the benchmarks come with the repository, they are not installed here")
    os.execv(sys.executable, [sys.executable, "-m", f"benchmarks.{name}", *arguments])
