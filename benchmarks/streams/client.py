"""The load: a process of its own that opens connections, reads, counts, and costs little itself.

python -m benchmarks.streams.client JOB, a `Job` as JSON. Connections that are to stay idle are told by "open" on stdout
and used once more upon a line on stdin. What was read goes to the job's file, as a `Report`.
"""

import asyncio
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar, cast

import msgspec
import uvloop

_SPARE_DESCRIPTORS: Final = 64
_MAX_CONNECTING: Final = 100  # at a time
_CONNECT_PAUSE_S: Final = 0.002  # a flood of arrivals is not what is measured
_CONNECT_TIMEOUT_S: Final = 60.0
_MAX_REFUSAL_BYTES: Final = 300

P = TypeVar("P", bound=asyncio.Protocol)


class Job(msgspec.Struct, frozen=True):
    host: str
    port: int
    num_connections: int
    request: bytes  # of each connection
    token: bytes  # a token as it stands in an event
    is_stream: bool  # else the answers are short, and connections stay open between two of them
    report: str  # a file's path


class Read(msgspec.Struct, frozen=True):
    """One stream as its reader saw it; instants are time.monotonic(), one clock for all processes."""

    call_id: str
    started_at_s: float
    token_at_s: list[float]
    num_events: int  # with tokens
    is_whole: bool
    refusal: str  # the beginning of an answer that is no stream, or an error event; empty: none


class Report(msgspec.Struct, frozen=True):
    streams: list[Read]
    num_answers: int  # 200s of connections that stay open
    cpu_s: float


class StreamReader(asyncio.Protocol):
    """Writes its request when it is connected, and counts tokens in whole events."""

    def __init__(self, job: Job, on_end: Callable[[], None]) -> None:
        self._job = job
        self._on_end = on_end
        self._rest = b""
        self._token_at_s: list[float] = []
        self._num_events = 0
        self._call_id = ""
        self._started_at_s = 0.0
        self._is_whole = False
        self._refusal = ""
        self._started = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._started_at_s = time.monotonic()
        self._transport.write(self._job.request)

    def data_received(self, data: bytes) -> None:
        now_s = time.monotonic()
        data = self._rest + data
        if not self._started and not data.startswith(b"HTTP/1.1 200 "):
            self._refuse(data)
        self._started = True
        end = data.rfind(b"\n\n") + 2 if b"\n\n" in data else 0
        events, self._rest = data[:end], data[end:]
        if num := events.count(self._job.token):
            self._token_at_s += [now_s] * num
            self._num_events += events.count(b"data: {")
            if not self._call_id:
                self._call_id = events.partition(b'"id":"')[2].partition(b'"')[0].decode()
        if b'{"error":' in events:
            self._refuse(events)
        elif b"[DONE]" in events:
            self._is_whole = True
            self._transport.close()

    def _refuse(self, data: bytes) -> None:
        self._refusal = data[-_MAX_REFUSAL_BYTES:].decode(errors="replace")
        self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._on_end()

    def read(self) -> Read:
        return Read(
            self._call_id, self._started_at_s, self._token_at_s, self._num_events, self._is_whole, self._refusal
        )


class IdleConnection(asyncio.Protocol):
    """Asks when it is told to; an answer is one piece."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    async def ask(self) -> bool:
        """Whether the answer is a 200."""
        self._answered = asyncio.get_running_loop().create_future()
        if self._transport.is_closing():
            return False
        self._transport.write(self._job.request)
        return await self._answered

    def data_received(self, data: bytes) -> None:
        self._answer(data.startswith(b"HTTP/1.1 200 "))

    def connection_lost(self, error: Exception | None) -> None:
        self._answer(False)

    def _answer(self, is_good: bool) -> None:
        if not self._answered.done():
            self._answered.set_result(is_good)

    def close(self) -> None:
        self._transport.close()


async def run(job: Job) -> Report:
    return await (_read_streams(job) if job.is_stream else _stay_idle(job))


async def _read_streams(job: Job) -> Report:
    all_ended = asyncio.Event()
    num_open = job.num_connections

    def end_one() -> None:
        nonlocal num_open
        num_open -= 1
        if not num_open:
            all_ended.set()

    readers = await _connect(job, lambda: StreamReader(job, end_one))
    await all_ended.wait()
    return Report([reader.read() for reader in readers], 0, time.process_time())


async def _stay_idle(job: Job) -> Report:
    connections = await _connect(job, lambda: IdleConnection(job))
    answers = [await connection.ask() for connection in connections]
    print("open" if all(answers) else f"{answers.count(False)} failed", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    answers = [await connection.ask() for connection in connections]
    for connection in connections:
        connection.close()
    return Report([], answers.count(True), time.process_time())


async def _connect(job: Job, make: Callable[[], P]) -> list[P]:
    """Not all at once: a listening socket's queue is bounded."""
    loop = asyncio.get_running_loop()
    turn = asyncio.Semaphore(_MAX_CONNECTING)

    async def connect_one(number: int) -> P:
        await asyncio.sleep(number * _CONNECT_PAUSE_S)
        async with turn, asyncio.timeout(_CONNECT_TIMEOUT_S):
            _, protocol = await loop.create_connection(make, job.host, job.port)
        return protocol

    return await asyncio.gather(*(connect_one(number) for number in range(job.num_connections)))


def main() -> None:
    job = msgspec.json.decode(sys.argv[1], type=Job)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = job.num_connections + _SPARE_DESCRIPTORS
    if hard != resource.RLIM_INFINITY and hard < needed:
        sys.exit(f"{needed} descriptors are needed, {hard} are allowed: raise ulimit -Hn")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    Path(job.report).write_bytes(msgspec.msgpack.encode(uvloop.run(run(job))))


if __name__ == "__main__":
    main()
