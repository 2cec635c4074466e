"""The token loop's share of a step: CPU seconds of its thread over seconds of steps, both from the worker's metrics.

python -m benchmarks.loop_share [--model smollm2-135m] [--streams 1 16] [--new-tokens 256] [--repeats 3]

Between two scrapes only decode steps and the few prefills before them run. The loop's CPU time has all that it does:
planning, frames, beats, and the scrape itself.
"""

import argparse
import asyncio
import statistics
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

import msgspec

from benchmarks.load import stream_all
from benchmarks.markdown import save_page, table
from benchmarks.report import save
from benchmarks.served import serve_demo
from shared.machine import num_cores

GOAL: Final = 0.05
_PROMPT: Final = "Once upon a time there was a river that did not know where the sea is."


class _Target(msgspec.Struct):
    targets: list[str]
    labels: dict[str, str]


@dataclass(frozen=True, slots=True)
class Seconds:
    """Since the worker started."""

    loop_cpu_s: float
    steps_s: float
    num_steps: float


@dataclass(frozen=True, slots=True)
class Run:
    num_streams: int
    share: float
    loop_cpu_ms_per_step: float
    step_ms: float


def total(text: str, name: str) -> float:
    """Of all label values. Raises ValueError where there is no such metric."""
    values = [float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
    if not values:
        raise ValueError(f"no metric {name}")
    return sum(values)


def read_seconds(address: str) -> Seconds:
    text = _get(f"http://{address}/metrics").decode()
    names = ("kottos_loop_cpu_seconds_total", "kottos_step_seconds_sum", "kottos_step_seconds_count")
    return Seconds(*(total(text, name) for name in names))


def run_of(num_streams: int, before: Seconds, after: Seconds) -> Run:
    loop_cpu_s, steps_s = after.loop_cpu_s - before.loop_cpu_s, after.steps_s - before.steps_s
    num_steps = after.num_steps - before.num_steps
    return Run(num_streams, loop_cpu_s / steps_s, 1e3 * loop_cpu_s / num_steps, 1e3 * steps_s / num_steps)


def worker_address(url: str) -> str:
    """host:port of the one worker's metrics."""
    targets = msgspec.json.decode(_get(f"{url}/metrics/targets"), type=list[_Target])
    [worker] = [target for target in targets if target.labels["service"] == "worker"]
    return worker.targets[0]


def measure(url: str, model: str, options: argparse.Namespace) -> list[Run]:
    address = worker_address(url)
    runs = []
    for num_streams in options.streams * options.repeats:
        asyncio.run(stream_all(url, model, [_PROMPT] * num_streams, 8))  # the prompt's KV is there now
        before = read_seconds(address)
        asyncio.run(stream_all(url, model, [_PROMPT] * num_streams, options.new_tokens))
        runs.append(run_of(num_streams, before, read_seconds(address)))
    return runs


def summary(runs: Sequence[Run], num_streams: Sequence[int]) -> str:
    rows = []
    for num in num_streams:
        own = [run for run in runs if run.num_streams == num]
        share, loop_ms, step_ms = (
            statistics.median(getattr(run, name) for run in own)
            for name in ("share", "loop_cpu_ms_per_step", "step_ms")
        )
        verdict = "met" if share < GOAL else "missed"
        rows.append([f"{num}", f"{step_ms:.2f}", f"{loop_ms:.3f}", f"{share:.1%}", f"< {GOAL:.0%} ({verdict})"])
    return table(["streams", "step ms", "loop CPU ms per step", "share", "goal"], rows)


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as answer:
        content: bytes = answer.read()
    return content


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="a demo model")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--new-tokens", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=num_cores())
    options = parser.parse_args()
    with serve_demo(options.model, options.threads) as served:
        runs = measure(served.url, options.model, options)
    title = f"{options.model}: {options.new_tokens} tokens out, {options.threads} threads, medians of {options.repeats}"
    found = summary(runs, options.streams)
    print(f"\n{title}\n\n{found}\n")
    print(save("loop_share", [asdict(run) for run in runs]))
    print(save_page("loop_share", title, [found]))


if __name__ == "__main__":
    main()
