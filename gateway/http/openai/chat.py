"""POST /v1/chat/completions: the request."""

from typing import Any, Final

import msgspec
from msgspec.structs import replace

from gateway.http.openai.fields import GenerateRequest, supported
from gateway.http.openai.messages import RequestMessage, chat_message
from gateway.http.openai.tools import ToolChoice, ToolDefinition, chat_options
from gateway.request.call import Call
from gateway.request.params import MAX_LOGPROBS, invalid
from gateway.request.prompts import Chat
from shared.ids import ModelName
from shared.messages import ChatOptions, GenerationParams

_DEFAULTS: Final = ChatOptions()


class ChatRequest(GenerateRequest, frozen=True, kw_only=True):
    messages: list[RequestMessage]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[ToolDefinition] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    # not supported yet, unless they ask for nothing
    functions: list[msgspec.Raw] | None = None

    def check_supported(self) -> None:
        super().check_supported()
        supported("functions", not self.functions)
        supported("prompt_logprobs", self.prompt_logprobs is None)

    def params(self, max_tokens: int | None) -> GenerationParams:
        """Raises RequestError."""
        num_top = self.top_logprobs or 0
        if not 0 <= num_top <= MAX_LOGPROBS:
            raise invalid(f"top_logprobs must be an integer from 0 to {MAX_LOGPROBS}.", "top_logprobs")
        if num_top and not self.logprobs:
            raise invalid("top_logprobs is only allowed when logprobs is true.", "top_logprobs")
        return replace(super().params(max_tokens), logprobs=num_top if self.logprobs else None)

    def call(self, call_id: str, arrived_at_s: float) -> Call:
        """Raises RequestError."""
        self.check_supported()
        max_tokens = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        options = chat_options(
            self.tools,
            self.tool_choice,
            self.parallel_tool_calls,
            self.chat_template_kwargs,
            self.add_generation_prompt,
            self.continue_final_message,
        )
        chat = chat_of(self.messages, options)
        return Call(call_id, ModelName(self.model), (chat,), self.params(max_tokens), arrived_at_s)


chat_decoder: Final = msgspec.json.Decoder(ChatRequest)


def chat_of(messages: list[RequestMessage], options: ChatOptions = _DEFAULTS) -> Chat:
    """Raises RequestError."""
    if not messages:
        raise invalid("messages must not be empty.", "messages")
    return Chat(tuple(chat_message(message, index) for index, message in enumerate(messages)), options)
