"""What running streams notice of a model that is added and removed: time between tokens as a client sees it.

python -m benchmarks.add_model [--streams 4] [--new-tokens 256] [--quiet-s 15] [--threads N] [--model NAME=PATH ...]

Streams of the first model run all the time, one after the other on each of the lanes; by default it is the demo chat
model, and the second, which comes and goes, the other demo model. The cache folder is a new one, so the first time the
second model is imported, the second time it is there. A step is the median time between tokens while nothing else
happens. Goal: the p99 rises by two steps at most.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from benchmarks.load import Stream, open_session, percentile, stream_completion
from benchmarks.markdown import save_page, table
from benchmarks.report import save
from benchmarks.served import Served, serve
from cli.client_env import OPERATOR_ENV
from shared.catalogue import demo_models
from shared.config import ModelSource, load_config
from shared.machine import num_cores

GOAL_STEPS: Final = 2.0
_PROMPT: Final = "Once upon a time there was a river that did not know where the sea is."
_MEMORY: Final = "4GiB"  # for both models, so that nothing but their coming and going happens
_QUIET: Final = "before"  # the phase that others are compared with


@dataclass(frozen=True, slots=True)
class Phase:
    name: str
    from_s: float
    to_s: float


@dataclass(frozen=True, slots=True)
class Seen:
    """Between tokens whose later one came in this phase."""

    phase: str
    took_s: float
    gaps_s: list[float]


def seen_in(phases: Iterable[Phase], streams: Sequence[Stream]) -> list[Seen]:
    """Gaps within a stream only."""
    gaps = [(at_s, gap_s) for s in streams for at_s, gap_s in zip(s.token_at_s[1:], s.gaps_s, strict=True)]
    return [
        Seen(p.name, p.to_s - p.from_s, [gap_s for at_s, gap_s in gaps if p.from_s <= at_s < p.to_s]) for p in phases
    ]


def summary(seen: Sequence[Seen]) -> str:
    quiet = next(each for each in seen if each.phase == _QUIET)
    step_s, quiet_p99_s = percentile(quiet.gaps_s, 50), percentile(quiet.gaps_s, 99)
    rows = []
    for each in seen:
        p50_s, p99_s, most_s = (percentile(each.gaps_s, percent) for percent in (50, 99, 100))
        rise = (p99_s - quiet_p99_s) / step_s
        verdict = "" if each is quiet else "met" if rise <= GOAL_STEPS else "missed"
        times = [f"{1e3 * value_s:.1f}" for value_s in (p50_s, p99_s, most_s)]
        longest = f"{(most_s - step_s) / step_s:+.1f}"
        rows.append([each.phase, f"{each.took_s:.1f}", f"{len(each.gaps_s)}", *times, f"{rise:+.2f}", longest, verdict])
    header = ["phase", "s", "tokens", "p50 ms", "p99 ms", "max ms", "p99, in steps", "max, in steps", "goal"]
    return table(header, rows)


async def measure(served: Served, first: str, second: ModelSource, options: argparse.Namespace) -> list[Seen]:
    stop = asyncio.Event()
    phases: list[Phase] = []

    async def phase(name: str, *command: str) -> None:
        """As long as the command takes, or for a quiet while."""
        from_s = time.monotonic()
        if command:
            await _kottos_models(served, *command)
        else:
            await asyncio.sleep(options.quiet_s)
        phases.append(Phase(name, from_s, time.monotonic()))

    async with open_session() as session:

        async def lane() -> list[Stream]:
            streams = []
            while not stop.is_set():
                streams.append(await stream_completion(session, served.url, first, _PROMPT, options.new_tokens))
            return streams

        await stream_completion(session, served.url, first, _PROMPT, 8)  # the prompt's KV is there now
        lanes = [asyncio.create_task(lane()) for _ in range(options.streams)]
        await phase("(start)")
        await phase(_QUIET)
        await phase("a command that changes nothing", "list")
        await phase("added, imported first", "add", second.name, second.path)
        await phase("after it")
        await phase("removed", "remove", second.name)
        await phase("added again", "add", second.name, second.path)
        await phase("after that")
        stop.set()
        streams = [stream for found in await asyncio.gather(*lanes) for stream in found]
    return seen_in(phases[1:], streams)


async def _kottos_models(served: Served, *words: str) -> None:
    """Raises CalledProcessError."""
    command = [sys.executable, "-c", "from cli.main import main; main()", "models", *words]
    command += ["--env", str(served.client_env.parent / OPERATOR_ENV)]
    process = await asyncio.create_subprocess_exec(*command)
    if await process.wait():
        raise subprocess.CalledProcessError(process.returncode or 1, command)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--new-tokens", type=int, default=256)
    parser.add_argument("--quiet-s", type=float, default=15.0)
    parser.add_argument("--threads", type=int, default=num_cores())
    parser.add_argument("--model", action="append", metavar="NAME=PATH", help="twice: who streams, who comes and goes")
    options = parser.parse_args()
    given = [ModelSource(*text.split("=", 1)) for text in options.model or ()]
    first, second = given or demo_models(load_config().cache_dir)
    with tempfile.TemporaryDirectory() as temp:
        settings = {"KOTTOS_WORKER_NUM_THREADS": str(options.threads), "KOTTOS_CACHE": temp}
        flags = ("--model", str(first), "--device-memory", _MEMORY)
        with serve(*flags, log_path=Path(temp) / "log", settings=settings) as served:
            seen = asyncio.run(measure(served, first.name, second, options))
    title = f"{second.name} comes and goes beside {options.streams} streams of {first.name}, {options.threads} threads"
    found = summary(seen)
    print(f"\n{title}\n\n{found}\n")
    print(save("add_model", [asdict(each) for each in seen]))
    print(save_page("add_model", title, [found]))


if __name__ == "__main__":
    main()
