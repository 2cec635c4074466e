"""What traces of every request and scraped metrics take from throughput.

python -m benchmarks.telemetry [--rounds 5] [--streams 8] [--new-tokens 128] [--fast-streams 64] [--fast-tokens 500]

Twice the same stack, one with telemetry (all requests traced, all services scraped every second) and one without. They
take turns on the same cores, in changing order, with new prompts of equal length, and the idle one sleeps. First
`kottos serve` with real models, both asked at once so that turns change at every step, which makes most spans. Then
gateway, router and NATS with a worker that runs no model and answers at once: the gateway is what limits these. The
collector takes everything and keeps nothing; its CPU time counts, as it shares the cores.
"""

import argparse
import asyncio
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import msgspec
import uvloop
from tokenizers import Tokenizer

from benchmarks.load import Stream, open_session, output_rate, stream_all, stream_completion
from benchmarks.markdown import save_page, table
from benchmarks.report import save
from benchmarks.scripted_stack import open_stack
from benchmarks.served import serve
from shared.catalogue import demo_models
from shared.config import TelemetryConfig, load_config

GOAL: Final = 0.02
_SCRAPE_S: Final = 1.0
_TOKEN_IDS: Final = range(5_000, 45_000)  # words of every demo model
_PROMPT_TOKENS: Final = 64

Rate = Callable[[list[list[int]]], Awaitable[float]]  # prompts -> tokens per second


@dataclass(frozen=True, slots=True)
class Pair:
    """The same work with and without telemetry. Tokens per second."""

    stack: str
    on: float
    off: float

    @property
    def cost(self) -> float:
        return 1.0 - self.on / self.off


class _Target(msgspec.Struct):
    targets: list[str]


@contextmanager
def collecting() -> Iterator[str]:
    """The address of a collector, which has to have heard something at the end."""
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.otlp_sink"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        yield url
        if not int(_get(f"{url}/batches")):
            raise RuntimeError("no traces came")
    finally:
        process.kill()
        process.wait()


@contextmanager
def scraping(url: str) -> Iterator[None]:
    """All services of a stack, as Prometheus would."""
    found = msgspec.json.decode(_get(f"{url}/metrics/targets"), type=list[_Target])
    addresses = [address for target in found for address in target.targets]
    stopping = threading.Event()

    def scrape() -> None:
        while not stopping.wait(_SCRAPE_S):
            for address in addresses:
                _get(f"http://{address}/metrics")

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


async def compare(stack: str, on: Rate, off: Rate, rounds: int, num_prompts: int) -> list[Pair]:
    pairs: list[Pair] = []
    rng = random.Random(0)
    for number in range(rounds + 1):
        prompts = [rng.choices(_TOKEN_IDS, k=_PROMPT_TOKENS) for _ in range(2 * num_prompts)]
        ours, theirs = prompts[:num_prompts], prompts[num_prompts:]
        if number % 2:
            rate_on, rate_off = await on(ours), await off(theirs)
        else:
            rate_off, rate_on = await off(theirs), await on(ours)
        if number:  # the first round warms up
            pairs.append(Pair(stack, rate_on, rate_off))
            print(f"{stack}: {rate_on:.1f} tok/s with, {rate_off:.1f} without", flush=True)
    return pairs


async def both_models(url: str, models: Sequence[str], prompts: list[list[int]], num_tokens: int) -> list[Stream]:
    """Prompts alternate between the models."""
    async with open_session() as session:
        return await asyncio.gather(
            *(
                stream_completion(session, url, models[number % len(models)], prompt, num_tokens)
                for number, prompt in enumerate(prompts)
            )
        )


async def measure_served(on_url: str, off_url: str, options: argparse.Namespace) -> list[Pair]:
    models = [source.name for source in demo_models(load_config().cache_dir)]

    def rate(url: str) -> Rate:
        async def run(prompts: list[list[int]]) -> float:
            return output_rate(await both_models(url, models, prompts, options.new_tokens))

        return run

    with_scrapes = rate(on_url)

    async def on(prompts: list[list[int]]) -> float:
        with scraping(on_url):
            return await with_scrapes(prompts)

    return await compare("real worker", on, rate(off_url), options.rounds, options.streams)


async def measure_gateway(collector: str, options: argparse.Namespace) -> list[Pair]:
    source = demo_models(load_config().cache_dir)[0]
    tokenizer = Tokenizer.from_file(str(Path(source.path) / "tokenizer.json"))
    token_id = tokenizer.encode(" the", add_special_tokens=False).ids[0]
    traced = TelemetryConfig(otlp_endpoint=collector)
    async with (
        open_stack(source, token_id, telemetry=traced) as on,
        open_stack(source, token_id, telemetry=TelemetryConfig()) as off,
    ):

        def rate(url: str) -> Rate:
            async def run(prompts: list[list[int]]) -> float:
                return output_rate(await stream_all(url, source.name, prompts, options.fast_tokens))

            return run

        with_traces = rate(on.url)

        async def with_scrapes(prompts: list[list[int]]) -> float:
            with scraping(on.url):
                return await with_traces(prompts)

        return await compare("gateway", with_scrapes, rate(off.url), options.rounds, options.fast_streams)


def summary(pairs: Sequence[Pair]) -> str:
    rows = []
    for stack in dict.fromkeys(pair.stack for pair in pairs):
        own = [pair for pair in pairs if pair.stack == stack]
        on, off = (statistics.median(rates) for rates in ([p.on for p in own], [p.off for p in own]))
        costs = sorted(pair.cost for pair in own)
        cost = statistics.median(costs)
        verdict = "met" if cost < GOAL else "missed"
        spread = f"{costs[0]:.1%} to {costs[-1]:.1%}"
        rows.append([stack, f"{on:.1f}", f"{off:.1f}", f"{cost:.1%}", spread, f"< {GOAL:.0%} ({verdict})"])
    return table(["what limits", "tok/s with", "tok/s without", "cost, median of pairs", "of each pair", "goal"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=8, help="of the real worker, half of them for each model")
    parser.add_argument("--new-tokens", type=int, default=128, help="of each of these streams")
    parser.add_argument("--fast-streams", type=int, default=64, help="of the worker without a model")
    parser.add_argument("--fast-tokens", type=int, default=500)
    options = parser.parse_args()
    pairs: list[Pair] = []
    with tempfile.TemporaryDirectory() as temp, collecting() as collector:
        settings = {"KOTTOS_TELEMETRY_OTLP_ENDPOINT": collector}
        with (
            serve("--demo", log_path=Path(temp) / "on", settings=settings) as on,
            serve("--demo", log_path=Path(temp) / "off") as off,
        ):
            pairs += uvloop.run(measure_served(on.url, off.url, options))
        pairs += uvloop.run(measure_gateway(collector, options))
    title = f"What traces of every request and scrapes every {_SCRAPE_S:g} s cost"
    found = summary(pairs)
    print(f"\n{title}\n\n{found}\n")
    print(save("telemetry", [asdict(pair) for pair in pairs]))
    print(save_page("telemetry", title, [found]))


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as answer:
        content: bytes = answer.read()
    return content


if __name__ == "__main__":
    main()
