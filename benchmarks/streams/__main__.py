"""How many streams does one gateway carry on one core, how many connections does it hold, and what does each cost?

python -m benchmarks.streams [--streams 1000] [--rates 10000,20000,25000] [--seconds 15] [--workers 8] [--idle 10000]

The gateway's process has a core of its own; its text processes, nats-server, router, the scripted workers (in this
process) and the client process share the others. Prompts are token ids. Every worker says one token of each of its
streams per step, in one frame, at its own steps' pace.
"""

import argparse
import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec
import uvloop
from tokenizers import Tokenizer

from benchmarks.load import percentile
from benchmarks.markdown import save_page, table
from benchmarks.processes import size_of
from benchmarks.report import save
from benchmarks.scripted_stack import Stack, open_stack
from benchmarks.scripted_worker import ScriptedWorker
from benchmarks.streams.client import Read
from benchmarks.streams.load import CpuMeter, client, pin, until
from shared.catalogue import demo_models
from shared.config import GatewayConfig, load_config
from shared.ids import RequestId

GOAL_STREAMS: Final = 1_000
GOAL_RATE: Final = 20_000.0  # tokens per second
GOAL_CONNECTIONS: Final = 10_000
_WORD: Final = " the"  # one token of the demo models
_PROMPT: Final = [500] * 16  # token ids
_RAMP_S: Final = 2.0  # for all streams to have their first tokens, before the time that counts
_OPEN_TIMEOUT_S: Final = 120.0
_NEVER_S: Final = 1e9


@dataclass(frozen=True)
class Carried:
    """All streams at once, over the time in which all of them ran."""

    offered_per_s: float
    tokens_per_s: float
    tokens_per_event: float
    gateway_share: float  # of its core
    client_cpu_s: float
    gap_ms: tuple[float, float]  # between a stream's tokens at the client: median, 99th percentile
    worker_gap_ms: tuple[float, float]  # the same between its worker's steps
    delay_ms: tuple[float, float]  # from a frame's hand-over to the bus until its token was read
    stream_kib: float  # PSS of the gateway's process, per stream


@dataclass(frozen=True)
class Held:
    """Connections that wait."""

    num_connections: int
    num_served: int  # well, once the waiting was over
    gateway_share: float
    connection_kib: float  # PSS of the gateway's process, per connection


def post(body: dict[str, object]) -> bytes:
    data = msgspec.json.encode(body)
    head = "POST /v1/completions HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def stream_request(model: str, num_tokens: int) -> bytes:
    return post(
        {
            "model": model,
            "prompt": _PROMPT,
            "max_tokens": num_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
        }
    )


def num_begun(workers: Sequence[ScriptedWorker]) -> int:
    return sum(len(worker.first_steps) for worker in workers)


def num_assigned(workers: Sequence[ScriptedWorker]) -> int:
    return sum(len(worker.assigned_at_s) for worker in workers)


def pss_kib(pid: int) -> float:
    return size_of(pid).pss_bytes / 1024


async def carry(stack: Stack, num_streams: int, rate: float, seconds: float) -> Carried:
    """Raises RuntimeError when a stream did not end whole."""
    period_s = num_streams / rate
    for worker in stack.workers:
        worker.period_s, worker.first_token_s = period_s, _NEVER_S
    num_tokens = max(2, round((_RAMP_S + seconds) / period_s))
    before_kib = pss_kib(stack.gateway_pid)
    meter = CpuMeter(stack.gateway_pid)
    request = stream_request(stack.model, num_tokens)
    async with meter.running(), client(stack.url, request, num_streams, _WORD.encode()) as running:
        await until(lambda: num_assigned(stack.workers) >= num_streams, _OPEN_TIMEOUT_S)
        for worker in stack.workers:  # all of them begin now: who comes later would come to a busy gateway
            worker.first_token_s = 0.0
        await until(lambda: num_begun(stack.workers) >= num_streams, _OPEN_TIMEOUT_S)
        stream_kib = (pss_kib(stack.gateway_pid) - before_kib) / num_streams
        report = await running.report()
    if broken := [read for read in report.streams if not read.is_whole or len(read.token_at_s) != num_tokens]:
        raise RuntimeError(f"{len(broken)} of {num_streams} streams did not end whole: {broken[0].refusal}")
    from_s = max(read.token_at_s[0] for read in report.streams)
    to_s = min(read.token_at_s[-1] for read in report.streams)
    if to_s - from_s < seconds / 2:
        raise RuntimeError("the streams ran together for too short a time: raise --seconds or lower --rates")
    sent_at_s = {read.call_id: _sent_at_s(read, stack.workers) for read in report.streams}
    read_gaps, sent_gaps, delays = [], [], []
    num_read = 0
    for read in report.streams:
        pairs = [pair for pair in zip(read.token_at_s, sent_at_s[read.call_id], strict=True) if from_s < pair[0] < to_s]
        num_read += len(pairs)
        delays += [read_s - sent_s for read_s, sent_s in pairs]
        for (read_s, sent_s), (next_read_s, next_sent_s) in pairwise(pairs):
            read_gaps.append(next_read_s - read_s)
            sent_gaps.append(next_sent_s - sent_s)
    return Carried(
        offered_per_s=rate,
        tokens_per_s=num_read / (to_s - from_s),
        tokens_per_event=num_streams * num_tokens / sum(read.num_events for read in report.streams),
        gateway_share=meter.share(from_s, to_s),
        client_cpu_s=report.cpu_s,
        gap_ms=_percentiles_ms(read_gaps),
        worker_gap_ms=_percentiles_ms(sent_gaps),
        delay_ms=_percentiles_ms(delays),
        stream_kib=stream_kib,
    )


def _sent_at_s(read: Read, workers: Sequence[ScriptedWorker]) -> list[float]:
    """When its tokens were handed to the bus."""
    request_id = RequestId(f"{read.call_id}-0")
    worker = next(worker for worker in workers if request_id in worker.first_steps)
    first = worker.first_steps[request_id]
    return worker.step_at_s[first : first + len(read.token_at_s)]


def _percentiles_ms(values_s: Sequence[float]) -> tuple[float, float]:
    return 1e3 * percentile(values_s, 50), 1e3 * percentile(values_s, 99)


async def hold_idle(stack: Stack, num_connections: int, seconds: float) -> Held:
    """Each has had an answer, and gets another one at the end."""
    before_kib = pss_kib(stack.gateway_pid)
    meter = CpuMeter(stack.gateway_pid)
    async with client(stack.url, b"GET /health HTTP/1.1\r\nHost: bench\r\n\r\n", num_connections) as running:
        await running.is_open()
        share = await _rest(meter, seconds)
        kib = (pss_kib(stack.gateway_pid) - before_kib) / num_connections
        await running.ask_again()
        report = await running.report()
    return Held(num_connections, report.num_answers, share, kib)


async def hold_waiting(stack: Stack, num_streams: int, seconds: float) -> Held:
    """Streams whose first token lets them wait, with comments meanwhile; then all of them have theirs."""
    for worker in stack.workers:
        worker.first_token_s, worker.period_s = _NEVER_S, 0.05
    before_kib = pss_kib(stack.gateway_pid)
    meter = CpuMeter(stack.gateway_pid)
    async with client(stack.url, stream_request(stack.model, 2), num_streams, _WORD.encode()) as running:
        await until(lambda: num_assigned(stack.workers) >= num_streams, _OPEN_TIMEOUT_S)
        share = await _rest(meter, seconds)
        kib = (pss_kib(stack.gateway_pid) - before_kib) / num_streams
        for worker in stack.workers:
            worker.first_token_s = 0.0
        report = await running.report()
    return Held(num_streams, sum(read.is_whole for read in report.streams), share, kib)


async def _rest(meter: CpuMeter, seconds: float) -> float:
    """-> the gateway's share of its core, while nothing is asked."""
    from_s = time.monotonic()
    async with meter.running():
        await asyncio.sleep(seconds)
    return meter.share(from_s, time.monotonic())


def carried_table(rows: Sequence[Carried]) -> str:
    header = [
        "offered tokens/s", "tokens/s", "tokens per event", "gateway's core %", "us of it per token",
        "gap p50 / p99 ms", "worker's p50 / p99", "bus to reader p50 / p99 ms", "KiB per stream",
    ]  # fmt: skip

    def pair(values: tuple[float, float]) -> str:
        return f"{values[0]:.1f} / {values[1]:.1f}"

    return table(
        header,
        [
            [
                f"{row.offered_per_s:.0f}",
                f"{row.tokens_per_s:.0f}",
                f"{row.tokens_per_event:.2f}",
                f"{100 * row.gateway_share:.0f}",
                f"{1e6 * row.gateway_share / row.tokens_per_s:.1f}",
                pair(row.gap_ms),
                pair(row.worker_gap_ms),
                pair(row.delay_ms),
                f"{row.stream_kib:.0f}",
            ]
            for row in rows
        ],
    )


def held_table(idle: Held, waiting: Held) -> str:
    rows = [
        [
            name,
            f"{held.num_connections}",
            f"{held.num_served}",
            f"{100 * held.gateway_share:.1f}",
            f"{held.connection_kib:.1f}",
        ]
        for name, held in (("idle, kept alive", idle), ("streams before their first token", waiting))
    ]
    return table(["connections", "held", "served afterwards", "gateway's core %", "KiB each"], rows)


def cores() -> tuple[int, list[int]]:
    """The gateway's, and all others. Raises SystemExit where there is one only."""
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        raise SystemExit("two cores are needed: one is the gateway's alone")
    return first, others


async def run(options: argparse.Namespace) -> None:
    source = next(source for source in demo_models(load_config().cache_dir) if source.name == options.model)
    tokenizer = Tokenizer.from_file(str(Path(source.path) / "tokenizer.json"))
    [token_id] = tokenizer.encode(_WORD, add_special_tokens=False).ids
    most = max(options.idle, options.streams) * 11 // 10
    settings = GatewayConfig(
        max_requests=most,
        max_waiting_of_model=most,
        max_waiting_of_tenant=most,
        max_connections=most,
        idle_timeout_s=3600.0,
    )
    gateway_core, other_cores = cores()
    os.sched_setaffinity(0, other_cores)  # what is started from here on inherits it

    @asynccontextmanager
    async def fresh_stack() -> AsyncIterator[Stack]:
        """For each measurement, as a process uses memory again that it once had."""
        async with open_stack(source, token_id, options.workers, settings) as stack:
            pin(stack.gateway_pid, [gateway_core])
            yield stack

    carried = []
    for rate in options.rates:
        print(f"{options.streams} streams, {rate:.0f} tokens/s ...", flush=True)
        async with fresh_stack() as stack:
            carried.append(await carry(stack, options.streams, rate, options.seconds))
        print(carried_table(carried[-1:]), flush=True)
    print(f"{options.idle} idle connections, then as many streams that wait ...", flush=True)
    async with fresh_stack() as stack:
        idle = await hold_idle(stack, options.idle, options.seconds)
    async with fresh_stack() as stack:
        waiting = await hold_waiting(stack, options.idle, options.seconds)
    best = max((row.tokens_per_s for row in carried if row.offered_per_s >= GOAL_RATE), default=0.0)
    is_carried = options.streams >= GOAL_STREAMS and best >= 0.99 * GOAL_RATE
    is_held = all(held.num_served == held.num_connections >= GOAL_CONNECTIONS for held in (idle, waiting))
    paragraphs = [
        f"{options.streams} streams of {options.workers} workers at one gateway that has one core. Goal: "
        f"{GOAL_STREAMS} streams with {GOAL_RATE:.0f} tokens/s ({'met' if is_carried else 'missed'}).",
        carried_table(carried),
        f"Goal: {GOAL_CONNECTIONS} connections held and served ({'met' if is_held else 'missed'}). The gateway needs a "
        f"descriptor for each: `ulimit -Hn` of at least {most + 384} here.",
        held_table(idle, waiting),
    ]
    title = "Streams and connections of one gateway on one core, workers without a model"
    print("\n" + "\n\n".join([title, *paragraphs]) + "\n")
    results = {"carried": [asdict(row) for row in carried], "idle": asdict(idle), "waiting": asdict(waiting)}
    print(save("streams", results))
    print(save_page("streams", title, paragraphs))


def _rates(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="a demo model, for its tokenizer")
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--rates", type=_rates, default=_rates("10000,20000,25000"), help="tokens per second")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each measurement")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--idle", type=int, default=10_000, help="connections that wait")
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
