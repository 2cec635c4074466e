"""One request as its client sees it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec

from cli.exit_codes import Answered, Unreachable
from cli.gateway_client import ErrorDetail, GatewayClient
from cli.load_test.plan import Planned

Api = Literal["chat", "completions"]
_PATHS: Final[dict[Api, str]] = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}
_DONE: Final = b"[DONE]"


class _Delta(msgspec.Struct, frozen=True):
    content: str | None = None
    reasoning: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    text: str | None = None
    delta: _Delta = _Delta()

    @property
    def has_text(self) -> bool:
        return bool(self.text or self.delta.content or self.delta.reasoning)


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Chunk(msgspec.Struct, frozen=True):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: ErrorDetail | None = None


_decoder: Final = msgspec.json.Decoder(_Chunk)


@dataclass(slots=True)
class Measured:
    """Instants are seconds after the start of the load."""

    planned: Planned
    arrived_at_s: float  # when it was due to be sent, or, without a rate, when it was
    token_at_s: list[float] = field(default_factory=list)  # when the text with the token was read
    ended_at_s: float = 0.0
    num_prompt_tokens: int = 0
    num_output_tokens: int = 0  # as the server counts, or chunks with text
    error: str = ""  # empty: none
    was_answered: bool = True  # if only by an error


def body_of(planned: Planned, api: Api, *, ignore_eos: bool) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": planned.model,
        "max_tokens": planned.num_output_tokens,
        "stream": True,
        # vLLM and Kottos say with each chunk how many tokens there were; others ignore it
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }
    if ignore_eos:
        body["ignore_eos"] = True
    if api == "chat":
        return body | {"messages": [{"role": "user", "content": planned.prompt}]}
    return body | {"prompt": planned.prompt}


async def measure(
    client: GatewayClient,
    planned: Planned,
    api: Api,
    *,
    ignore_eos: bool,
    arrived_at_s: float,
    clock: Callable[[], float],
) -> Measured:
    """clock: seconds after the start of the load. What goes wrong is in what it returns."""
    measured = Measured(planned, arrived_at_s)
    try:
        async with client.stream("POST", _PATHS[api], body_of(planned, api, ignore_eos=ignore_eos)) as events:
            async for event in events:
                if event.data == _DONE:
                    break
                if event.data:
                    take(event.data, measured, clock())
            else:
                measured.error = "the stream breaks off"
    except Answered as error:
        measured.error = f"{error.status} {error.code}".strip()
    except Unreachable as error:
        measured.error = str(error)
        measured.was_answered = bool(measured.token_at_s)
    except msgspec.DecodeError as error:
        measured.error = f"no chunk: {error}"
    measured.ended_at_s = clock()
    measured.num_output_tokens = max(measured.num_output_tokens, len(measured.token_at_s))
    return measured


def take(data: bytes, measured: Measured, now_s: float) -> None:
    """Raises Answered for an error in the stream, msgspec.DecodeError."""
    chunk = _decoder.decode(data)
    if chunk.error is not None:
        raise Answered(200, chunk.error.code or "error", chunk.error.message)
    has_text = any(choice.has_text for choice in chunk.choices)
    if chunk.usage is not None:
        measured.num_prompt_tokens = chunk.usage.prompt_tokens
        measured.num_output_tokens = chunk.usage.completion_tokens
    if not chunk.choices:  # the last one, which has no token
        return
    if chunk.usage is not None:
        measured.token_at_s += [now_s] * (chunk.usage.completion_tokens - len(measured.token_at_s))
    elif has_text:
        measured.token_at_s.append(now_s)
