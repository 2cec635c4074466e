"""POST /v1/responses: the request. Fields that nobody here knows are ignored.

Source: platform.openai.com/docs/api-reference/responses/create. seed, top_k, ttft_s, tbt_s, timeout_s and priority
are as in the other routes.
"""

from typing import Any, Final, Literal

import msgspec

from gateway.http.bodies import json_text
from gateway.http.responses_api.items import InputItem, chat_messages
from gateway.http.sampled_request import SampledRequest
from gateway.request.call import Call
from gateway.request.params import invalid
from gateway.request.prompts import Chat
from shared.ids import ModelName
from shared.messages import ChatMessage, ChatOptions, Tool
from shared.structured import JsonSchemaFormat, ResponseFormat


class FunctionTool(msgspec.Struct, frozen=True, kw_only=True):
    type: Literal["function"]  # others would run here
    name: str
    parameters: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None

    def tool(self, param: str) -> Tool:
        """Raises RequestError."""
        if self.parameters is None:
            return Tool(self.name, self.description)
        return Tool(self.name, self.description, json_text(self.parameters, f"{param}.parameters"))


class NamedTool(msgspec.Struct, frozen=True, kw_only=True):
    type: Literal["function"]
    name: str


class TextFormat(msgspec.Struct, frozen=True, kw_only=True):
    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str | None = None
    schema: dict[str, Any] | None = None  # with json_schema
    description: str | None = None
    strict: bool | None = None


class TextConfig(msgspec.Struct, frozen=True, kw_only=True):
    format: TextFormat = TextFormat()
    verbosity: str | None = None  # accepted


class Reasoning(msgspec.Struct, frozen=True, kw_only=True):
    """Accepted: how a model thinks is its own affair."""

    effort: str | None = None
    summary: str | None = None


class ResponsesRequest(SampledRequest, frozen=True, kw_only=True):
    model: str
    input: str | list[InputItem]
    instructions: str | None = None
    max_output_tokens: int | None = None
    stream: bool | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    # accepted, and repeated in the answer
    reasoning: Reasoning | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    # accepted: nothing is stored
    store: bool | None = None
    # need what is not there, unless they ask for nothing
    previous_response_id: str | None = None
    conversation: str | dict[str, Any] | None = None
    background: bool | None = None
    prompt: dict[str, Any] | None = None
    top_logprobs: int | None = None
    truncation: Literal["auto", "disabled"] | None = None

    def call(self, call_id: str, arrived_at_s: float) -> Call:
        """Raises RequestError."""
        self._check_supported()
        messages = chat_messages(self.input)
        if not messages:
            raise invalid("input must not be empty.", "input")
        system = (ChatMessage("system", self.instructions),) if self.instructions else ()
        params = self.params(self.max_output_tokens, self._response_format())
        chat = Chat((*system, *messages), self._options())
        return Call(call_id, ModelName(self.model), (chat,), params, arrived_at_s)

    def _check_supported(self) -> None:
        """Raises RequestError naming the first field that asks for what is not there."""
        without_state = "Responses are not kept: send the whole conversation as input."
        for name in ("previous_response_id", "conversation", "background", "prompt"):
            if getattr(self, name):
                raise invalid(f"{name} is not supported. {without_state}", name)
        if self.top_logprobs:
            raise invalid("top_logprobs is not supported here; use /v1/chat/completions.", "top_logprobs")
        if self.truncation == "auto":
            raise invalid("truncation auto is not supported: no input is dropped.", "truncation")

    def _options(self) -> ChatOptions:
        choice = self.tool_choice
        return ChatOptions(
            tools=tuple(tool.tool(f"tools[{index}]") for index, tool in enumerate(self.tools or ())),
            tool_choice="named" if isinstance(choice, NamedTool) else choice or "auto",
            tool_name=choice.name if isinstance(choice, NamedTool) else "",
            parallel_tool_calls=self.parallel_tool_calls is not False,
        )

    def _response_format(self) -> ResponseFormat | None:
        if self.text is None:
            return None
        given = self.text.format
        if given.type != "json_schema":
            return ResponseFormat(type=given.type)
        if given.schema is None:
            raise invalid("text.format.schema is missing.", "text.format.schema")
        json_text(given.schema, "text.format.schema")  # it is repeated in the answer
        schema = JsonSchemaFormat(
            schema=given.schema, name=given.name, description=given.description, strict=given.strict
        )
        return ResponseFormat(type="json_schema", json_schema=schema)


responses_decoder: Final = msgspec.json.Decoder(ResponsesRequest)
