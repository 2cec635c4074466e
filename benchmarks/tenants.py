"""What a tenant notices of another one that floods the model that both use.

python -m benchmarks.tenants [--rate 0.5] [--flood 32] [--seconds 60] [--rounds 3] [--model smollm2-135m]

`kottos serve` runs with two API keys. A modest tenant sends requests by chance (Poisson); the other keeps so many
streams open all the time, each new one as soon as one has ended. The modest one's times to first token are taken alone,
beside the flood, and, to see what the turns of tenants are worth, with the flood under its own key. Each round does all
three with the same requests.
"""

import argparse
import asyncio
import random
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Final, Literal

import aiohttp
import uvloop

from benchmarks.load import Stream, open_session, percentile, stream_completion
from benchmarks.markdown import save_page, table
from benchmarks.report import save
from benchmarks.served import serve

GOAL: Final = 2.0  # times the p95 of its TTFT alone
_FLOOD_STANDS_S: Final = 5.0  # before the first request is sent beside it
_PERCENTILES: Final = (50, 95, 99)
_TOKEN_IDS: Final = range(5_000, 45_000)  # words of every demo model
_FLOOD_LAG: Final = 0.02  # s between its streams as it begins

Beside = Literal["alone", "beside the flood", "the flood is its own"]
SITUATIONS: Final[tuple[Beside, ...]] = ("alone", "beside the flood", "the flood is its own")


@dataclass(frozen=True, slots=True)
class Load:
    prompt_tokens: int
    new_tokens: int


@dataclass(frozen=True, slots=True)
class Place:
    url: str
    model: str


@dataclass(frozen=True, slots=True)
class Sample:
    """Of one round in one situation."""

    situation: Beside
    ttfts_s: list[float]  # of the modest tenant's requests
    flood_tokens_per_s: float


def arrivals_s(rate: float, seconds: float, seed: int) -> list[float]:
    rng, found = random.Random(seed), [0.0]
    while found[-1] < seconds:
        found.append(found[-1] + rng.expovariate(rate))
    return found[:-1]


def prompt(rng: random.Random, num_tokens: int) -> list[int]:
    return rng.choices(_TOKEN_IDS, k=num_tokens)


class Flood:
    def __init__(self, place: Place, key: str, load: Load, num_streams: int, seed: int) -> None:
        self._place, self._key, self._load, self._num_streams = place, key, load, num_streams
        self._rng = random.Random(seed)
        self.num_tokens = 0  # of streams that ended

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with open_session(self._key) as session, asyncio.TaskGroup() as tasks:
            streams = [tasks.create_task(self._keep_open(session, i)) for i in range(self._num_streams)]
            await asyncio.sleep(_FLOOD_STANDS_S)
            self.num_tokens = 0
            try:
                yield
            finally:
                for stream in streams:
                    stream.cancel()

    async def _keep_open(self, session: aiohttp.ClientSession, number: int) -> None:
        await asyncio.sleep(number * _FLOOD_LAG)
        while True:
            tokens = prompt(self._rng, self._load.prompt_tokens)
            await stream_completion(session, self._place.url, self._place.model, tokens, self._load.new_tokens)
            self.num_tokens += self._load.new_tokens


async def modest_streams(place: Place, key: str, load: Load, at_s: Sequence[float], seed: int) -> list[Stream]:
    rng = random.Random(seed)
    prompts = [prompt(rng, load.prompt_tokens) for _ in at_s]

    async def one(after_s: float, tokens: list[int]) -> Stream:
        await asyncio.sleep(after_s)
        return await stream_completion(session, place.url, place.model, tokens, load.new_tokens)

    async with open_session(key) as session:
        return await asyncio.gather(*(one(*each) for each in zip(at_s, prompts, strict=True)))


async def take_sample(
    situation: Beside, place: Place, keys: Sequence[str], options: argparse.Namespace, seed: int
) -> Sample:
    modest, flooding = Load(options.prompt_tokens, options.new_tokens), Load(options.flood_prompt, options.flood_new)
    at_s = arrivals_s(options.rate, options.seconds, seed)
    if situation == "alone":
        streams = await modest_streams(place, keys[0], modest, at_s, seed)
        return Sample(situation, [stream.ttft_s for stream in streams], 0.0)
    flood_key = keys[1] if situation == "beside the flood" else keys[0]
    flood = Flood(place, flood_key, flooding, options.flood, seed)
    async with flood.running():
        began_at_s = time.monotonic()
        streams = await modest_streams(place, keys[0], modest, at_s, seed)
        rate = flood.num_tokens / (time.monotonic() - began_at_s)
    return Sample(situation, [stream.ttft_s for stream in streams], rate)


async def measure(place: Place, keys: Sequence[str], options: argparse.Namespace) -> list[Sample]:
    samples: list[Sample] = []
    seeds = count()
    warm_up = argparse.Namespace(**{**vars(options), "seconds": min(5.0, options.seconds)})
    await take_sample("alone", place, keys, warm_up, next(seeds))
    for _ in range(options.rounds):
        seed = next(seeds)
        for situation in SITUATIONS:
            samples.append(await take_sample(situation, place, keys, options, seed))
            p95_ms = percentile(samples[-1].ttfts_s, 95) * 1e3
            print(f"{situation}: p95 {p95_ms:.0f} ms of {len(samples[-1].ttfts_s)} requests", flush=True)
    return samples


def summary(samples: Sequence[Sample]) -> str:
    rows: list[list[str]] = []
    alone_p95_s = 0.0
    for situation in SITUATIONS:
        own = [sample for sample in samples if sample.situation == situation]
        ttfts_s = [ttft_s for sample in own for ttft_s in sample.ttfts_s]
        values_s = [percentile(ttfts_s, percent) for percent in _PERCENTILES]
        if situation == "alone":
            alone_p95_s = values_s[1]
        ratio = values_s[1] / alone_p95_s
        goal = "" if situation != "beside the flood" else "met" if ratio <= GOAL else "missed"
        rate = sum(sample.flood_tokens_per_s for sample in own) / len(own)
        rows.append(
            [situation, f"{len(ttfts_s)}", *(f"{s * 1e3:.0f}" for s in values_s), f"{ratio:.2f}", goal, f"{rate:.0f}"]
        )
    columns = [f"TTFT p{percent}, ms" for percent in _PERCENTILES]
    return table(["the modest tenant", "requests", *columns, "p95 / alone", "goal", "flood tok/s"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="a demo model")
    parser.add_argument("--rate", type=float, default=0.5, help="requests a second of the modest tenant")
    parser.add_argument("--prompt-tokens", type=int, default=256, help="of its requests")
    parser.add_argument("--new-tokens", type=int, default=16)
    parser.add_argument("--flood", type=int, default=32, help="streams that the other one keeps open")
    parser.add_argument("--flood-prompt", type=int, default=128, help="tokens of its prompts")
    parser.add_argument("--flood-new", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0, help="of a sample")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    keys = [secrets.token_hex(16) for _ in range(2)]
    with tempfile.TemporaryDirectory() as folder:
        settings = {"KOTTOS_KEYS_API": f"modest={keys[0]};flood={keys[1]}"}
        with serve("--demo", log_path=Path(folder) / "serve.log", settings=settings) as served:
            samples = uvloop.run(measure(Place(served.url, options.model), keys, options))
    title = (
        f"A model that two tenants share, one of them with {options.flood} streams at all times; goal: p95 of the "
        f"other's TTFT at most {GOAL:g} times what it is alone"
    )
    found = summary(samples)
    print(f"\n{title}\n\n{found}\n")
    print(save("tenants", [asdict(sample) for sample in samples]))
    print(save_page("tenants", title, [found]))


if __name__ == "__main__":
    main()
