"""POST /v1/responses: the answer. Source: platform.openai.com/docs/api-reference/responses/object"""

from typing import Literal

import msgspec

from gateway.http.responses_api.request import FunctionTool, NamedTool, Reasoning, ResponsesRequest, TextConfig
from gateway.output.generation import Generation

Status = Literal["in_progress", "completed", "incomplete", "failed"]


class Typed(msgspec.Struct, frozen=True, tag_field="type"):
    """Told apart by its type."""


class OutputText(Typed, frozen=True, tag="output_text"):
    text: str
    annotations: tuple[str, ...] = ()  # none: nothing here cites
    logprobs: tuple[str, ...] = ()  # none: not supported here


class ReasoningText(Typed, frozen=True, tag="reasoning_text"):
    text: str


class MessageItem(Typed, frozen=True, tag="message"):
    id: str
    status: Status
    content: tuple[OutputText, ...]
    role: str = "assistant"


class ReasoningItem(Typed, frozen=True, tag="reasoning"):
    id: str
    status: Status
    content: tuple[ReasoningText, ...]
    summary: tuple[str, ...] = ()  # none is made


class FunctionCallItem(Typed, frozen=True, tag="function_call"):
    id: str
    status: Status
    call_id: str
    name: str
    arguments: str


OutputItem = MessageItem | ReasoningItem | FunctionCallItem


class InputTokensDetails(msgspec.Struct, frozen=True):
    cached_tokens: int
    cache_write_tokens: int = 0


class OutputTokensDetails(msgspec.Struct, frozen=True):
    reasoning_tokens: int


class Usage(msgspec.Struct, frozen=True):
    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens_details: OutputTokensDetails


class IncompleteDetails(msgspec.Struct, frozen=True):
    reason: Literal["max_output_tokens"]


class ResponseError(msgspec.Struct, frozen=True):
    code: str
    message: str


class Response(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: str = "response"
    created_at: int
    status: Status
    model: str
    output: list[OutputItem]
    usage: Usage | None = None
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    # as asked for
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    parallel_tool_calls: bool
    reasoning: Reasoning
    temperature: float
    text: TextConfig
    tool_choice: Literal["none", "auto", "required"] | NamedTool
    tools: list[FunctionTool]
    top_p: float
    user: str | None
    # always so
    background: bool = False
    previous_response_id: None = None
    store: bool = False
    truncation: str = "disabled"


def begun(response_id: str, created_at: int, asked: ResponsesRequest) -> Response:
    return Response(
        id=response_id,
        created_at=created_at,
        status="in_progress",
        model=asked.model,
        output=[],
        instructions=asked.instructions,
        max_output_tokens=asked.max_output_tokens,
        metadata=asked.metadata or {},
        parallel_tool_calls=asked.parallel_tool_calls is not False,
        reasoning=asked.reasoning or Reasoning(),
        temperature=1.0 if asked.temperature is None else asked.temperature,
        text=asked.text or TextConfig(),
        tool_choice=asked.tool_choice or "auto",
        tools=asked.tools or [],
        top_p=1.0 if asked.top_p is None else asked.top_p,
        user=asked.user,
    )


def ended(response: Response, output: list[OutputItem], generation: Generation) -> Response:
    """Of an answer that is complete, or was cut off by its limit."""
    is_cut = status_of(generation) == "incomplete"
    return msgspec.structs.replace(
        response,
        status=status_of(generation),
        output=output,
        usage=usage_of(generation),
        incomplete_details=IncompleteDetails("max_output_tokens") if is_cut else None,
    )


def failed(response: Response, output: list[OutputItem], message: str) -> Response:
    error = ResponseError("server_error", message)
    return msgspec.structs.replace(response, status="failed", output=output, error=error)


def status_of(generation: Generation) -> Literal["completed", "incomplete"]:
    [choice] = generation.choices
    return "incomplete" if choice.finish_reason == "length" else "completed"


def usage_of(generation: Generation) -> Usage:
    num_prompt, num_output = generation.num_prompt_tokens, generation.num_output_tokens
    return Usage(
        num_prompt,
        num_output,
        num_prompt + num_output,
        InputTokensDetails(generation.num_cached_tokens),
        OutputTokensDetails(generation.num_reasoning_tokens),
    )
