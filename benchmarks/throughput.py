"""Tokens per second through the whole stack, against transformers' `generate`, in turns on the same cores.

python -m benchmarks.throughput [--model smollm2-135m] [--streams 16 1] [--prompt-tokens 128] [--new-tokens 128]

Both sides do the prefill of the same prompts, greedily, and ignore end tokens. While one side runs the other sleeps:
the CPU time that it takes meanwhile is measured.
"""

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.cpu_time import tree_cpu_s
from benchmarks.generate_peer import GeneratePeer
from benchmarks.load import Stream, output_rate, percentile, stream_all
from benchmarks.markdown import save_page, table
from benchmarks.report import save
from benchmarks.served import serve
from shared.catalogue import demo_models
from shared.config import load_config
from shared.machine import num_cores

OUTPUT_GOAL: Final = 1.3  # of generate's output rate, many streams
DECODE_GOAL: Final = 0.9  # of generate's decode rate, one stream
_WARM_UP_TOKENS: Final = 8
_SETTLE_S: Final = 0.5  # until a side that has run sleeps

Prompts = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Side:
    name: str
    pid: int  # its process tree
    run: Callable[[Prompts, int], list[Stream]]


@dataclass(frozen=True)
class Run:
    side: str
    streams: list[Stream]
    idle_cores: float  # that the other side's processes used meanwhile

    @property
    def rate(self) -> float:
        """Tokens per second: of one stream its decode rate, of many all output over wall time, prefill included."""
        return self.streams[0].decode_rate if len(self.streams) == 1 else output_rate(self.streams)

    def summary(self) -> dict[str, object]:
        gaps_s = [gap for stream in self.streams for gap in stream.gaps_s]
        return {
            "side": self.side,
            "num_streams": len(self.streams),
            "output_rate": output_rate(self.streams),
            "decode_rates": [stream.decode_rate for stream in self.streams],
            "ttft_s": [stream.ttft_s for stream in self.streams],
            "tbt_s": {f"p{percent}": percentile(gaps_s, percent) for percent in (1, 10, 50, 90, 99, 100)},
            "num_chunks": sum(stream.num_chunks for stream in self.streams),
            "idle_cores": self.idle_cores,
        }


def run_side(side: Side, other: Side, prompts: Prompts, num_tokens: int) -> Run:
    time.sleep(_SETTLE_S)
    cpu_s, started_at_s = tree_cpu_s(other.pid), time.monotonic()
    streams = side.run(prompts, num_tokens)
    wall_s = time.monotonic() - started_at_s
    return Run(side.name, streams, (tree_cpu_s(other.pid) - cpu_s) / wall_s)


def measure(ours: Side, theirs: Side, options: argparse.Namespace, vocab_size: int) -> list[Run]:
    """In turns, new prompts for every pair of runs."""
    rng = random.Random(0)
    pairs = ((ours, theirs), (theirs, ours))
    runs: list[Run] = []
    for num_streams in options.streams:
        for side, other in pairs:
            run_side(side, other, _prompts(rng, num_streams, options.prompt_tokens, vocab_size), _WARM_UP_TOKENS)
    for repeat in range(options.repeats):
        for num_streams in options.streams:
            prompts = _prompts(rng, num_streams, options.prompt_tokens, vocab_size)
            for side, other in pairs:
                run = run_side(side, other, prompts, options.new_tokens)
                runs.append(run)
                progress = f"[{repeat + 1}/{options.repeats}] {side.name}, streams: {num_streams}"
                print(f"{progress}, tokens/s: {run.rate:.1f}", flush=True)
    return runs


def _prompts(rng: random.Random, num: int, num_tokens: int, vocab_size: int) -> Prompts:
    return [[rng.randrange(vocab_size // 10, vocab_size) for _ in range(num_tokens)] for _ in range(num)]


def rates_table(runs: list[Run], num_streams: list[int]) -> str:
    rows = []
    for num in num_streams:
        ours, theirs = (
            statistics.median(run.rate for run in runs if run.side == side and len(run.streams) == num)
            for side in ("Kottos", "generate")
        )
        goal = DECODE_GOAL if num == 1 else OUTPUT_GOAL
        verdict = "met" if ours / theirs >= goal else "missed"
        what = "decode, first token excluded" if num == 1 else "all output over wall time"
        rows.append([f"{num}", what, f"{ours:.1f}", f"{theirs:.1f}", f"{ours / theirs:.2f}", f"{goal} ({verdict})"])
    return table(["streams", "tokens per second", "Kottos", "generate", "ratio", "goal"], rows)


def latency_table(runs: list[Run], num_streams: list[int]) -> str:
    rows = []
    for num in num_streams:
        for side in ("Kottos", "generate"):
            streams = [s for run in runs if run.side == side and len(run.streams) == num for s in run.streams]
            ttft_s = [stream.ttft_s for stream in streams]
            gaps_s = [gap for stream in streams for gap in stream.gaps_s]
            values = [percentile(ttft_s, p) for p in (50, 95)] + [percentile(gaps_s, p) for p in (50, 99)]
            rows.append([f"{num}", side, *(f"{1e3 * value:.1f}" for value in values)])
    return table(["streams", "side", "TTFT p50 ms", "TTFT p95 ms", "TBT p50 ms", "TBT p99 ms"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="a demo model")
    parser.add_argument("--streams", type=int, nargs="+", default=[16, 1])
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--threads", type=int, default=num_cores())
    options = parser.parse_args()
    source = next(source for source in demo_models(load_config().cache_dir) if source.name == options.model)
    vocab_size = json.loads((Path(source.path) / "config.json").read_text())["vocab_size"]
    settings = {"KOTTOS_WORKER_NUM_THREADS": str(options.threads)}
    flags = ("--model", f"{source.name}={source.path}", "--dtype", options.dtype)
    with (
        tempfile.TemporaryDirectory() as temp,
        serve(*flags, log_path=Path(temp) / "log", settings=settings) as served,
        GeneratePeer(Path(source.path), options.dtype, options.threads) as peer,
    ):
        ours = Side(
            "Kottos", served.pid, lambda prompts, num: asyncio.run(stream_all(served.url, source.name, prompts, num))
        )
        runs = measure(ours, Side("generate", peer.pid, peer.run), options, vocab_size)
    title = (
        f"{options.model}, {options.dtype}: {options.prompt_tokens} tokens in, {options.new_tokens} out, "
        f"{options.threads} threads, medians of {options.repeats}"
    )
    idle = f"The side that did not run used {max(run.idle_cores for run in runs):.3f} cores at most."
    paragraphs = [rates_table(runs, options.streams), latency_table(runs, options.streams), idle]
    print("\n" + "\n\n".join([title, *paragraphs]) + "\n")
    print(save("throughput", [run.summary() for run in runs]))
    print(save_page("throughput", title, paragraphs))


if __name__ == "__main__":
    main()
