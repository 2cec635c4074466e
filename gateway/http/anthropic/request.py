"""POST /v1/messages and /v1/messages/count_tokens: the requests. Fields that nobody here knows are ignored.

Source: platform.claude.com/docs/en/api/messages. seed, ttft_s, tbt_s, timeout_s and priority are as in other routes.
"""

from typing import Any, Final, Literal

import msgspec

from gateway.http.anthropic.blocks import InputMessage, TextBlock, Typed, chat_messages, text_of
from gateway.http.bodies import json_text
from gateway.pipeline import Call
from gateway.request.params import invalid
from gateway.request.prompts import Chat
from shared.ids import ModelName
from shared.messages import ChatMessage, ChatOptions, GenerationParams, Tool
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


class PromptRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is to answer: all that its tokens are counted of."""

    model: str
    messages: list[InputMessage]
    system: str | list[TextBlock] | None = None
    tools: list[ToolDefinition] | None = None
    tool_choice: AutoChoice | AnyChoice | NamedChoice | NoChoice | None = None
    thinking: Thinking | None = None

    def chat(self) -> Chat:
        """Raises RequestError."""
        if not self.messages:
            raise invalid("at least one message is required", "messages")
        system = [ChatMessage("system", text_of(self.system))] if self.system else []
        return Chat((*system, *chat_messages(self.messages)), self._options())

    def _options(self) -> ChatOptions:
        is_open = self.messages[-1].role == "assistant"  # the answer goes on where it ends
        kwargs = {} if self.thinking is None else {"enable_thinking": self.thinking.type != "disabled"}
        choice: Literal["none", "auto", "required", "named"] = "auto"
        name = ""
        chosen = self.tool_choice
        match chosen:
            case NoChoice():
                choice = "none"
            case AnyChoice():
                choice = "required"
            case NamedChoice():
                choice, name = "named", chosen.name
        return ChatOptions(
            tools=tuple(tool.tool(f"tools[{index}]") for index, tool in enumerate(self.tools or ())),
            tool_choice=choice,
            tool_name=name,
            parallel_tool_calls=not (isinstance(chosen, ToolChoice) and chosen.disable_parallel_tool_use),
            template_kwargs=msgspec.json.encode(kwargs).decode(),
            add_generation_prompt=not is_open,
            continue_final_message=is_open,
        )


class CountTokensRequest(PromptRequest, frozen=True, kw_only=True):
    pass


class MessagesRequest(PromptRequest, frozen=True, kw_only=True):
    max_tokens: int
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    ttft_s: float | None = None
    tbt_s: float | None = None
    timeout_s: float | None = None
    priority: int | None = None
    output_config: OutputConfig | None = None

    def call(self, call_id: str, arrived_at_s: float) -> Call:
        """Raises RequestError."""
        params = GenerationParams(
            max_tokens=self.max_tokens,
            stop=self.stop_sequences,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            seed=self.seed,
            ttft_s=self.ttft_s,
            tbt_s=self.tbt_s,
            timeout_s=self.timeout_s,
            priority=self.priority,
            response_format=self._response_format(),
        )
        return Call(call_id, ModelName(self.model), (self.chat(),), params, arrived_at_s)

    def _response_format(self) -> ResponseFormat | None:
        if self.output_config is None or self.output_config.format is None:
            return None
        schema = JsonSchemaFormat(schema=self.output_config.format.schema)
        return ResponseFormat(type="json_schema", json_schema=schema)


messages_decoder: Final = msgspec.json.Decoder(MessagesRequest)
count_tokens_decoder: Final = msgspec.json.Decoder(CountTokensRequest)
