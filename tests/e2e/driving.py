"""What the tests of the whole stack share: the models' names, the official client, completions read to their end."""

from dataclasses import dataclass, field
from typing import Any, Final

from openai import AsyncOpenAI

from benchmarks.served import Served
from shared.config import BusConfig, load_config

CHAT_MODEL: Final = "smollm2-135m"
BASE_MODEL: Final = "gemma3-270m"  # without a chat template
BOTH: Final = (CHAT_MODEL, BASE_MODEL)
_DEFAULTS: Final[dict[str, Any]] = {"temperature": 0, "extra_body": {"return_token_ids": True}}


def open_client(served: Served) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0, timeout=90)


@dataclass
class Completed:
    """One completion, streamed or whole."""

    pieces: list[str] = field(default_factory=list)  # texts of the chunks
    token_ids: list[int] = field(default_factory=list)
    prompt_token_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    num_output_tokens: int = 0

    @property
    def text(self) -> str:
        return "".join(self.pieces)


async def complete(client: AsyncOpenAI, model: str, prompt: Any, **asked: Any) -> Completed:
    """Greedy unless asked otherwise, as one answer."""
    answer = await client.completions.create(model=model, prompt=prompt, **_DEFAULTS | asked)
    [choice] = answer.choices
    assert answer.usage is not None
    return Completed(
        [choice.text],
        choice.token_ids,  # vLLM's field
        choice.prompt_token_ids,
        choice.finish_reason,
        answer.usage.completion_tokens,
    )


async def complete_streaming(client: AsyncOpenAI, model: str, prompt: Any, **asked: Any) -> Completed:
    """The same, as a stream."""
    usage: dict[str, Any] = {"stream_options": {"include_usage": True}}
    stream = await client.completions.create(model=model, prompt=prompt, stream=True, **_DEFAULTS | usage | asked)
    completed = Completed()
    async for chunk in stream:
        if chunk.usage is not None:
            assert not chunk.choices  # the last chunk
            completed.num_output_tokens = chunk.usage.completion_tokens
            continue
        [choice] = chunk.choices
        assert completed.finish_reason is None
        completed.pieces.append(choice.text)
        completed.token_ids += choice.token_ids
        completed.prompt_token_ids += getattr(choice, "prompt_token_ids", None) or []
        completed.finish_reason = choice.finish_reason
    return completed


def bus_config(served: Served) -> BusConfig:
    """As an internal service gets it."""
    lines = served.client_env.read_text().splitlines()
    return load_config(environ=dict(line.split("=", 1) for line in lines)).bus
