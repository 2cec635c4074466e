"""OpenAI's request bodies, decoded and turned into calls. Fields that nobody here knows are ignored.

Sources: platform.openai.com/docs/api-reference (chat/create, completions/create); vLLM for top_k, min_p, min_tokens,
ignore_eos, repetition_penalty and return_token_ids.
"""

import re
from typing import Final, TypeVar

import msgspec

from gateway.params import invalid
from gateway.pipeline import Call, Chat, Prompt, Text, Tokens
from shared.ids import ModelName
from shared.messages import ChatMessage, GenerationParams

_MAX_MESSAGE_CHARS: Final = 300
_MISSING: Final = re.compile(r"missing required field `(\w+)`")


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


class ResponseFormat(msgspec.Struct, frozen=True):
    type: str = "text"


class GenerateRequest(GenerationParams, frozen=True, kw_only=True):
    """What both routes have in common."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    return_token_ids: bool | None = None
    # not supported yet, unless they ask for nothing
    n: int | None = None
    logit_bias: dict[str, float] | None = None
    response_format: ResponseFormat | None = None

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def check_supported(self) -> None:
        """Raises RequestError naming the first field that asks for what is not there."""
        _supported("n", self.n in (None, 1))
        _supported("logit_bias", not self.logit_bias)
        _supported("response_format", self.response_format is None or self.response_format.type == "text")
        if self.stream_options is not None and not self.stream:
            raise invalid("stream_options is only allowed when stream is true.", "stream_options")

    def params(self, max_tokens: int | None) -> GenerationParams:
        given = {name: getattr(self, name) for name in GenerationParams.__struct_fields__}
        return GenerationParams(**{**given, "max_tokens": max_tokens})


class ContentPart(msgspec.Struct, frozen=True):
    type: str
    text: str | None = None


class RequestMessage(msgspec.Struct, frozen=True):
    role: str
    content: str | list[ContentPart] | None = None


class ChatRequest(GenerateRequest, frozen=True, kw_only=True):
    messages: list[RequestMessage]
    max_completion_tokens: int | None = None
    # not supported yet, unless they ask for nothing
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[msgspec.Raw] | None = None
    functions: list[msgspec.Raw] | None = None

    def check_supported(self) -> None:
        super().check_supported()
        _supported("logprobs", not self.logprobs)
        _supported("top_logprobs", not self.top_logprobs)
        _supported("tools", not self.tools)
        _supported("functions", not self.functions)

    def call(self, call_id: str, arrived_at_s: float) -> Call:
        """Raises RequestError."""
        self.check_supported()
        if not self.messages:
            raise invalid("messages must not be empty.", "messages")
        messages = tuple(ChatMessage(m.role, _content(m, index)) for index, m in enumerate(self.messages))
        max_tokens = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        return Call(call_id, ModelName(self.model), (Chat(messages),), self.params(max_tokens), arrived_at_s)


class CompletionRequest(GenerateRequest, frozen=True, kw_only=True):
    prompt: str | list[int | str | list[int]]
    # not supported yet, unless they ask for nothing
    logprobs: int | None = None
    echo: bool | None = None
    best_of: int | None = None
    suffix: str | None = None

    def check_supported(self) -> None:
        super().check_supported()
        _supported("logprobs", self.logprobs is None)
        _supported("echo", not self.echo)
        _supported("best_of", self.best_of in (None, 1))
        _supported("suffix", not self.suffix)

    def call(self, call_id: str, arrived_at_s: float) -> Call:
        """Raises RequestError."""
        self.check_supported()
        return Call(call_id, ModelName(self.model), _prompts(self.prompt), self.params(self.max_tokens), arrived_at_s)


_Request = TypeVar("_Request", ChatRequest, CompletionRequest)

chat_decoder: Final = msgspec.json.Decoder(ChatRequest)
completion_decoder: Final = msgspec.json.Decoder(CompletionRequest)


def parse(body: bytes, decoder: msgspec.json.Decoder[_Request]) -> _Request:
    """Raises RequestError."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:  # well-formed, of a wrong type
        message, _, path = str(error).partition(" - at `$")
        missing = _MISSING.search(message)
        names = [path.rstrip("`").removeprefix("."), missing.group(1) if missing else ""]
        raise invalid(str(error)[:_MAX_MESSAGE_CHARS], ".".join(filter(None, names)) or None) from None
    except RecursionError:
        raise invalid("The body is nested too deeply.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid(f"The body is not valid JSON: {error}"[:_MAX_MESSAGE_CHARS]) from None


def _supported(name: str, is_supported: bool) -> None:
    if not is_supported:
        raise invalid(f"{name} is not supported yet.", name)


def _content(message: RequestMessage, index: int) -> str:
    if not isinstance(message.content, list):
        return message.content or ""
    for part in message.content:
        if part.type != "text" or part.text is None:
            raise invalid("Only content parts of type text are supported.", f"messages[{index}].content")
    return "\n".join(part.text or "" for part in message.content)


def _prompts(prompt: str | list[int | str | list[int]]) -> tuple[Prompt, ...]:
    """A text, token ids, or a list of either."""
    if isinstance(prompt, str):
        return (Text(prompt),)
    if not prompt:
        raise invalid("The prompt is empty.", "prompt")
    if isinstance(prompt[0], int):
        return (_tokens(prompt),)
    return tuple(Text(item) if isinstance(item, str) else _tokens(item) for item in prompt)


def _tokens(items: int | list[int] | list[int | str | list[int]]) -> Tokens:
    token_ids = tuple(item for item in items if isinstance(item, int)) if isinstance(items, list) else ()
    if not isinstance(items, list) or len(token_ids) != len(items):
        raise invalid("prompt must be a text, a list of token ids, or a list of either.", "prompt")
    return Tokens(token_ids)
