"""What gateway, NATS and router add: everything real but the worker, which answers at once and runs no model.

python -m benchmarks.overhead [--requests 500] [--prompt-tokens 128] [--streams 16] [--new-tokens 1000]

Gateway, router and nats-server are processes; client and worker share this one, so they add to each other what the
numbers below charge to the stack. All times are time.monotonic(), one clock for all processes of a Linux machine.
"""

import argparse
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import aiohttp
import uvloop
from tokenizers import Tokenizer

from benchmarks.cpu_time import tree_cpu_s
from benchmarks.load import Stream, open_session, output_rate, percentile, stream_all, stream_completion
from benchmarks.markdown import save_page, table
from benchmarks.report import save
from benchmarks.scripted_stack import Stack, open_stack
from benchmarks.scripted_worker import ScriptedWorker
from shared.catalogue import demo_models
from shared.config import load_config
from shared.ids import RequestId

GOAL_MS: Final = 5.0  # median time to the first token
_WARM_UP: Final = 50
_PERCENTILES: Final = (50, 95, 99)
_PAUSES_S: Final = (0.005, 0.001, 0.0)  # pauses of a fast worker, of one faster than any, of none at all
_TEXT: Final = "The quick brown fox jumps over the lazy dog, and runs away from the hounds of the village. "


@dataclass(frozen=True)
class FirstToken:
    """Seconds of one request, up to its first token."""

    total: float  # at the client: before the request is written, until the chunk is read
    to_worker: float  # until the worker reads the assignment
    in_worker: float  # until it hands the frame to its bus client
    to_client: float  # until the chunk is read


def split(stream: Stream, worker: ScriptedWorker) -> FirstToken:
    request_id = RequestId(f"{stream.call_id}-0")
    assigned_at_s, sent_at_s = worker.assigned_at_s.pop(request_id), worker.sent_at_s.pop(request_id)
    return FirstToken(
        total=stream.ttft_s,
        to_worker=assigned_at_s - stream.started_at_s,
        in_worker=sent_at_s - assigned_at_s,
        to_client=stream.token_at_s[0] - sent_at_s,
    )


async def measure_first_tokens(stack: Stack, prompts: Sequence[str | Sequence[int]]) -> list[FirstToken]:
    """One request after the other, on one connection."""
    measured = []
    async with open_session() as session:
        for prompt in prompts:
            stream = await stream_completion(session, stack.url, stack.model, prompt, num_tokens=2)
            measured.append(split(stream, stack.workers[0]))
    return measured[_WARM_UP:]


async def measure_health(url: str, num: int) -> list[float]:
    """Seconds of the smallest request there is, for comparison: HTTP and nothing else."""
    measured = []
    async with aiohttp.ClientSession() as session:
        for _ in range(num):
            started_at_s = time.monotonic()
            async with session.get(f"{url}/health") as response:
                await response.read()
            measured.append(time.monotonic() - started_at_s)
    return measured[_WARM_UP:]


@dataclass(frozen=True)
class Rate:
    pause_ms: float
    tokens_per_s: float
    tokens_per_chunk: float
    gateway_cpu_us_per_token: float
    tbt_p50_ms: float
    tbt_p99_ms: float


async def measure_rate(stack: Stack, pause_s: float, prompts: Sequence[Sequence[int]], num_tokens: int) -> Rate:
    """All streams at once."""
    stack.workers[0].pause_s = pause_s
    cpu_s = tree_cpu_s(stack.gateway_pid)
    streams = await stream_all(stack.url, stack.model, prompts, num_tokens)
    cpu_s = tree_cpu_s(stack.gateway_pid) - cpu_s
    stack.workers[0].pause_s = 0.0
    num_output_tokens = len(streams) * num_tokens
    gaps_s = [gap for stream in streams for gap in stream.gaps_s]
    return Rate(
        pause_ms=1e3 * pause_s,
        tokens_per_s=output_rate(streams),
        tokens_per_chunk=num_output_tokens / sum(stream.num_chunks for stream in streams),
        gateway_cpu_us_per_token=1e6 * cpu_s / num_output_tokens,
        tbt_p50_ms=1e3 * percentile(gaps_s, 50),
        tbt_p99_ms=1e3 * percentile(gaps_s, 99),
    )


def latency_table(by_prompt: dict[str, list[FirstToken]], health_s: list[float]) -> str:
    def row(name: str, part: str, values: list[float]) -> list[str]:
        return [name, part, *(f"{1e3 * percentile(values, p):.2f}" for p in _PERCENTILES)]

    rows = []
    for name, tokens in by_prompt.items():
        rows.append(row(name, "request to first token", [token.total for token in tokens]))
        rows.append(row(name, "- request to Assign seen", [token.to_worker for token in tokens]))
        rows.append(row(name, "- in the worker", [token.in_worker for token in tokens]))
        rows.append(row(name, "- frame sent to chunk seen", [token.to_client for token in tokens]))
    rows.append(row("none", "GET /health", health_s))
    return table(["prompt", "milliseconds", *(f"p{p}" for p in _PERCENTILES)], rows)


def rate_table(rates: list[Rate]) -> str:
    header = ["worker's pause ms", "tokens/s", "tokens per chunk", "gateway CPU us/token", "TBT p50 ms", "TBT p99 ms"]
    return table(
        header,
        [
            [
                f"{rate.pause_ms:g}",
                f"{rate.tokens_per_s:.0f}",
                f"{rate.tokens_per_chunk:.2f}",
                f"{rate.gateway_cpu_us_per_token:.0f}",
                f"{rate.tbt_p50_ms:.2f}",
                f"{rate.tbt_p99_ms:.2f}",
            ]
            for rate in rates
        ],
    )


async def run(options: argparse.Namespace) -> None:
    source = next(source for source in demo_models(load_config().cache_dir) if source.name == options.model)
    tokenizer = Tokenizer.from_file(str(Path(source.path) / "tokenizer.json"))
    rng = random.Random(0)
    num = options.requests + _WARM_UP

    def token_ids() -> list[int]:
        return [rng.randrange(1000, tokenizer.get_vocab_size()) for _ in range(options.prompt_tokens)]

    words = tokenizer.encode(_TEXT * options.prompt_tokens, add_special_tokens=False).ids
    text = tokenizer.decode(words[: options.prompt_tokens])
    async with open_stack(source, tokenizer.encode(" the", add_special_tokens=False).ids[0]) as stack:
        print(f"{num} requests with token ids, {num} with text, one after the other ...", flush=True)
        by_prompt = {
            "token ids": await measure_first_tokens(stack, [token_ids() for _ in range(num)]),
            "text": await measure_first_tokens(stack, [text] * num),
        }
        health_s = await measure_health(stack.url, num)
        print(f"{options.streams} streams of {options.new_tokens} tokens ...", flush=True)
        prompts = [token_ids() for _ in range(options.streams)]
        rates = [await measure_rate(stack, pause_s, prompts, options.new_tokens) for pause_s in _PAUSES_S]
    medians = [1e3 * percentile([token.total for token in tokens], 50) for tokens in by_prompt.values()]
    verdict = "met" if max(medians) < GOAL_MS else "missed"
    paragraphs = [
        f"Time to the first token, {options.requests} requests one after the other, keep-alive connection. "
        f"Goal: under {GOAL_MS:g} ms at the median ({verdict}).",
        latency_table(by_prompt, health_s),
        f"{options.streams} streams of {options.new_tokens} tokens through one gateway, which joins the tokens that "
        "it finds waiting in one chunk:",
        rate_table(rates),
    ]
    title = f"What gateway, NATS and router add: prompts of {options.prompt_tokens} tokens, a worker without a model"
    print("\n" + "\n\n".join([title, *paragraphs]) + "\n")
    columns: dict[str, object] = {
        name: {key: [round(asdict(token)[key], 6) for token in tokens] for key in asdict(tokens[0])}
        for name, tokens in by_prompt.items()
    }
    columns["health"] = [round(seconds, 6) for seconds in health_s]
    print(save("overhead", {"latency_s": columns, "rates": [asdict(rate) for rate in rates]}))
    print(save_page("overhead", title, paragraphs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="a demo model, for its tokenizer")
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--new-tokens", type=int, default=1000)
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
