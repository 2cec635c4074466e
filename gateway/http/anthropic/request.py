"""POST /v1/messages and /v1/messages/count_tokens: the requests. Fields that nobody here knows are ignored.

Source: platform.claude.com/docs/en/api/messages. seed, ttft_s, tbt_s, timeout_s and priority are as in other routes.
"""

from typing import Any, Final, Literal

import msgspec

from gateway.http.anthropic.blocks import InputMessage, TextBlock, Typed, chat_messages, text_of
from gateway.http.bodies import json_text
from gateway.http.sampled_request import SampledRequest
from gateway.request.call import Call
from gateway.request.params import invalid
from gateway.request.prompts import Chat
from shared.ids import ModelName
from shared.messages import ChatMessage, ChatOptions, Tool
from shared.structured import JsonSchemaFormat, ResponseFormat


class ToolDefinition(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    input_schema: dict[str, Any]
    description: str | None = None
    type: Literal["custom"] | None = None  # others would run here

    def tool(self, param: str) -> Tool:
        """Raises RequestError."""
        return Tool(self.name, self.description, json_text(self.input_schema, f"{param}.input_schema"))


class ToolChoice(Typed, frozen=True):
    disable_parallel_tool_use: bool | None = None


class AutoChoice(ToolChoice, frozen=True, tag="auto"):
    pass


class AnyChoice(ToolChoice, frozen=True, tag="any"):
    pass


class NamedChoice(ToolChoice, frozen=True, tag="tool", kw_only=True):
    name: str


class NoChoice(Typed, frozen=True, tag="none"):
    pass


class Thinking(msgspec.Struct, frozen=True):
    """Which templates know as `enable_thinking`. How long a model thinks is its own affair."""

    type: Literal["enabled", "disabled", "adaptive"]


class OutputFormat(msgspec.Struct, frozen=True):
    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(msgspec.Struct, frozen=True):
    format: OutputFormat | None = None


class CountTokensRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is to answer: all that its tokens are counted of."""

    model: str
    messages: list[InputMessage]
    system: str | list[TextBlock] | None = None
    tools: list[ToolDefinition] | None = None
    tool_choice: AutoChoice | AnyChoice | NamedChoice | NoChoice | None = None
    thinking: Thinking | None = None

    def chat(self) -> Chat:
        """Raises RequestError."""
        return _chat(self)


class MessagesRequest(SampledRequest, frozen=True, kw_only=True):
    model: str
    messages: list[InputMessage]
    max_tokens: int
    system: str | list[TextBlock] | None = None
    tools: list[ToolDefinition] | None = None
    tool_choice: AutoChoice | AnyChoice | NamedChoice | NoChoice | None = None
    thinking: Thinking | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    output_config: OutputConfig | None = None

    def chat(self) -> Chat:
        """Raises RequestError."""
        return _chat(self)

    def call(self, call_id: str, arrived_at_s: float) -> Call:
        """Raises RequestError."""
        params = self.params(self.max_tokens, self._response_format(), self.stop_sequences)
        return Call(call_id, ModelName(self.model), (self.chat(),), params, arrived_at_s)

    def _response_format(self) -> ResponseFormat | None:
        if self.output_config is None or self.output_config.format is None:
            return None
        schema = JsonSchemaFormat(schema=self.output_config.format.schema)
        return ResponseFormat(type="json_schema", json_schema=schema)


messages_decoder: Final = msgspec.json.Decoder(MessagesRequest)
count_tokens_decoder: Final = msgspec.json.Decoder(CountTokensRequest)


def _chat(asked: MessagesRequest | CountTokensRequest) -> Chat:
    """Raises RequestError."""
    if not asked.messages:
        raise invalid("at least one message is required", "messages")
    system = [ChatMessage("system", text_of(asked.system))] if asked.system else []
    return Chat((*system, *chat_messages(asked.messages)), _options(asked))


def _options(asked: MessagesRequest | CountTokensRequest) -> ChatOptions:
    is_open = asked.messages[-1].role == "assistant"  # the answer goes on where it ends
    kwargs = {} if asked.thinking is None else {"enable_thinking": asked.thinking.type != "disabled"}
    choice: Literal["none", "auto", "required", "named"] = "auto"
    name = ""
    chosen = asked.tool_choice
    match chosen:
        case NoChoice():
            choice = "none"
        case AnyChoice():
            choice = "required"
        case NamedChoice():
            choice, name = "named", chosen.name
    return ChatOptions(
        tools=tuple(tool.tool(f"tools[{index}]") for index, tool in enumerate(asked.tools or ())),
        tool_choice=choice,
        tool_name=name,
        parallel_tool_calls=not (isinstance(chosen, ToolChoice) and chosen.disable_parallel_tool_use),
        template_kwargs=msgspec.json.encode(kwargs).decode(),
        add_generation_prompt=not is_open,
        continue_final_message=is_open,
    )
