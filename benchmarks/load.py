"""What the serving benchmarks share: streamed completions with the time of every token, and their summaries.

Times are time.monotonic(), which on Linux is one clock for all processes of a machine.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import aiohttp
import msgspec

_SILENCE_S: Final = 300.0  # without a byte; then the benchmark fails


@dataclass(frozen=True, slots=True)
class Stream:
    """One answer as its reader saw it."""

    started_at_s: float  # before the request was written
    token_at_s: list[float] = field(default_factory=list)  # when the chunk with the token was read
    num_chunks: int = 0
    call_id: str = ""

    @property
    def ttft_s(self) -> float:
        return self.token_at_s[0] - self.started_at_s

    @property
    def gaps_s(self) -> list[float]:
        """Between tokens; 0 for those of one chunk."""
        return [later - earlier for earlier, later in zip(self.token_at_s, self.token_at_s[1:], strict=False)]

    @property
    def decode_rate(self) -> float:
        """Tokens per second, the first token excluded."""
        return (len(self.token_at_s) - 1) / (self.token_at_s[-1] - self.token_at_s[0])


def output_rate(streams: Sequence[Stream]) -> float:
    """All tokens over the time from the first request to the last token."""
    wall_s = max(s.token_at_s[-1] for s in streams) - min(s.started_at_s for s in streams)
    return sum(len(s.token_at_s) for s in streams) / wall_s


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least so many percent of the values don't exceed."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


class _Choice(msgspec.Struct):
    token_ids: list[int]


class _Chunk(msgspec.Struct):
    id: str
    choices: list[_Choice]


_decoder: Final = msgspec.json.Decoder(_Chunk)


def open_session(api_key: str = "") -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None, sock_read=_SILENCE_S),
        headers={"Authorization": f"Bearer {api_key}"} if api_key else None,
    )


async def stream_completion(
    session: aiohttp.ClientSession, url: str, model: str, prompt: str | Sequence[int], num_tokens: int
) -> Stream:
    """Greedy, exactly `num_tokens`. Raises RuntimeError when the answer is not that."""
    body = msgspec.json.encode(
        {
            "model": model,
            "prompt": prompt,
            "max_tokens": num_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "return_token_ids": True,  # so that every token is a chunk, also one that completes no character
            "stream": True,
        }
    )
    token_at_s: list[float] = []
    num_chunks, call_id = 0, ""
    started_at_s = time.monotonic()
    async with session.post(
        f"{url}/v1/completions", data=body, headers={"Content-Type": "application/json"}
    ) as response:
        if response.status != 200:
            raise RuntimeError(f"status {response.status}: {await response.text()}")
        async for line in response.content:
            if line.startswith(b"data: {"):
                now_s = time.monotonic()
                chunk = _decoder.decode(line[len(b"data: ") :])  # an error event raises
                token_at_s += [now_s] * sum(len(choice.token_ids) for choice in chunk.choices)
                num_chunks += 1
                call_id = chunk.id
    if len(token_at_s) != num_tokens:
        raise RuntimeError(f"{len(token_at_s)} tokens instead of {num_tokens}")
    return Stream(started_at_s, token_at_s, num_chunks, call_id)


async def stream_all(url: str, model: str, prompts: Sequence[str | Sequence[int]], num_tokens: int) -> list[Stream]:
    """All at the same time."""
    async with open_session() as session:
        return await asyncio.gather(*(stream_completion(session, url, model, p, num_tokens) for p in prompts))
