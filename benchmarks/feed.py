"""What it costs to watch: a viewer's share of a core in the gateway, and what the worker's token loop spends on it.

python -m benchmarks.feed [--model smollm2-135m] [--streams 4] [--new-tokens 512] [--viewers 1 4 16] [--repeats 3]

The same streams run with and without viewers of /admin/feed, in turns. Viewers read from this process, so what they do
to the tokens per second has their own reading in it. Steps are real, so `turns` come ten times a second.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Final

import aiohttp

from benchmarks.cpu_time import process_cpu_s
from benchmarks.load import open_session, output_rate, stream_all
from benchmarks.loop_share import read_seconds, worker_address
from benchmarks.markdown import save_page, table
from benchmarks.processes import command_line, descendants
from benchmarks.report import save
from benchmarks.served import Served, serve_demo
from shared.machine import num_cores

GOAL: Final = 0.01  # of a core, in the gateway, for each viewer
_PROMPT: Final = "Once upon a time there was a river that did not know where the sea is."


@dataclass(frozen=True, slots=True)
class Run:
    num_viewers: int
    wall_s: float
    gateway_cpu_s: float
    loop_cpu_s: float  # of the worker's token loop
    tokens_per_s: float
    viewer_bytes_per_s: float  # of one


@dataclass(slots=True)
class _Read:
    num_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Cost:
    """Against the same streams without viewers."""

    num_viewers: int
    gateway_share: float  # of a core, for each viewer
    loop_share: float  # of a core, for all of them
    tokens_per_s: float  # of the rate without them
    viewer_bytes_per_s: float


def costs(runs: Sequence[Run]) -> list[Cost]:
    """Of medians; some runs are without viewers."""

    def median(name: str, num_viewers: int) -> float:
        return statistics.median(getattr(run, name) for run in runs if run.num_viewers == num_viewers)

    found = []
    for num in sorted({run.num_viewers for run in runs} - {0}):
        wall_s = median("wall_s", num)
        more_cpu_s = {name: median(name, num) - median(name, 0) for name in ("gateway_cpu_s", "loop_cpu_s")}
        found.append(
            Cost(
                num,
                more_cpu_s["gateway_cpu_s"] / wall_s / num,
                more_cpu_s["loop_cpu_s"] / wall_s,
                median("tokens_per_s", num) / median("tokens_per_s", 0),
                median("viewer_bytes_per_s", num),
            )
        )
    return found


def summary(found: Sequence[Cost]) -> str:
    header = ["viewers", "gateway, of a core a viewer", "goal", "token loop, of a core", "tokens/s", "KiB/s a viewer"]
    return table(
        header,
        [
            [
                f"{cost.num_viewers}",
                f"{cost.gateway_share:.2%}",
                f"< {GOAL:.0%} ({'met' if cost.gateway_share < GOAL else 'missed'})",
                f"{cost.loop_share:.2%}",
                f"{cost.tokens_per_s:.1%}",
                f"{cost.viewer_bytes_per_s / 1024:.1f}",
            ]
            for cost in found
        ],
    )


def gateway_pid(served: Served) -> int:
    """`python -m gateway`; what it starts itself has other words."""
    [pid] = [pid for pid in descendants(served.pid) if command_line(pid)[-1:] == ["gateway"]]
    return pid


@asynccontextmanager
async def viewing(session: aiohttp.ClientSession, url: str, read: _Read) -> AsyncIterator[None]:
    """From its first event on. Raises RuntimeError where it is refused."""
    async with session.get(f"{url}/admin/feed") as response:
        if response.status != 200:
            raise RuntimeError(f"status {response.status}: {await response.text()}")
        read.num_bytes += len(await response.content.readany())

        async def read_all() -> None:
            while data := await response.content.readany():
                read.num_bytes += len(data)

        reading = asyncio.create_task(read_all())
        try:
            yield
        finally:
            reading.cancel()
            await asyncio.wait([reading])


async def measure(served: Served, model: str, num_viewers: int, options: argparse.Namespace) -> Run:
    pid, address, read = gateway_pid(served), worker_address(served.url), _Read()
    prompts = [_PROMPT] * options.streams
    async with open_session() as session, AsyncExitStack() as viewers:
        for _ in range(num_viewers):
            await viewers.enter_async_context(viewing(session, served.url, read))
        await stream_all(served.url, model, prompts, 8)  # the prompt's KV is there, and the worker knows who watches
        cpu_s, loop_cpu_s, began_at_s = process_cpu_s(pid), read_seconds(address).loop_cpu_s, time.monotonic()
        num_bytes = read.num_bytes
        streams = await stream_all(served.url, model, prompts, options.new_tokens)
        wall_s = time.monotonic() - began_at_s
        return Run(
            num_viewers,
            wall_s,
            process_cpu_s(pid) - cpu_s,
            read_seconds(address).loop_cpu_s - loop_cpu_s,
            output_rate(streams),
            (read.num_bytes - num_bytes) / wall_s / max(1, num_viewers),
        )


async def measure_all(served: Served, model: str, options: argparse.Namespace) -> list[Run]:
    runs = []
    for repeat in range(options.repeats):
        for num_viewers in (0, *options.viewers):
            runs.append(await measure(served, model, num_viewers, options))
            print(f"{repeat + 1}/{options.repeats}: {num_viewers} viewers, {runs[-1].wall_s:.1f} s", flush=True)
            await asyncio.sleep(options.pause_s)  # workers hear that nobody watches any more
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="a demo model")
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--new-tokens", type=int, default=512)
    parser.add_argument("--viewers", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pause-s", type=float, default=4.0, help="between runs; a watch lapses in 3 s")
    parser.add_argument("--threads", type=int, default=num_cores())
    options = parser.parse_args()
    with serve_demo(options.model, options.threads) as served:
        runs = asyncio.run(measure_all(served, options.model, options))
    title = (
        f"Watching {options.streams} streams of {options.model}, {options.new_tokens} tokens each, "
        f"{options.threads} threads, medians of {options.repeats}"
    )
    found = summary(costs(runs))
    print(f"\n{title}\n\n{found}\n")
    print(save("feed", [asdict(run) for run in runs]))
    print(save_page("feed", title, [found]))


if __name__ == "__main__":
    main()
