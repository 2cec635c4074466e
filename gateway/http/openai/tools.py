"""Tools that a model may call, and how a chat is rendered, as clients ask for it.

Sources: platform.openai.com/docs/api-reference/chat/create (tools, tool_choice, parallel_tool_calls); vLLM for
chat_template_kwargs, add_generation_prompt and continue_final_message.
"""

from typing import Any, Final

import msgspec
from msgspec.structs import replace

from gateway.http.bodies import json_text
from gateway.request.params import invalid
from shared.messages import ChatOptions, Tool
from shared.structured import JsonSchema

_DEFAULTS: Final = ChatOptions()


class FunctionDefinition(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    description: str | None = None
    parameters: JsonSchema | None = None  # without: none
    strict: bool | None = None  # accepted; what has to be called keeps its schema anyway


class ToolDefinition(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    function: FunctionDefinition | None = None


class FunctionName(msgspec.Struct, frozen=True):
    name: str


class NamedTool(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    function: FunctionName | None = None


ToolChoice = str | NamedTool


def chat_options(
    tools: list[ToolDefinition] | None = None,
    tool_choice: ToolChoice | None = None,
    parallel_tool_calls: bool | None = None,
    chat_template_kwargs: dict[str, Any] | None = None,
    add_generation_prompt: bool | None = None,
    continue_final_message: bool | None = None,
) -> ChatOptions:
    """Raises RequestError. add_generation_prompt: unless the final message is to be continued."""
    continues = bool(continue_final_message)
    options = ChatOptions(
        tools=tuple(_tool(tool, index) for index, tool in enumerate(tools or ())),
        parallel_tool_calls=parallel_tool_calls is not False,
        template_kwargs=json_text(chat_template_kwargs or {}, "chat_template_kwargs"),
        add_generation_prompt=not continues if add_generation_prompt is None else add_generation_prompt,
        continue_final_message=continues,
    )
    return options if tool_choice is None else _with_choice(options, tool_choice)


def _tool(tool: ToolDefinition, index: int) -> Tool:
    function = tool.function
    if tool.type != "function":
        raise invalid("Only tools of type function are supported.", f"tools[{index}].type")
    if function is None:
        raise invalid("The tool has no function.", f"tools[{index}].function")
    if function.parameters is None:
        return Tool(function.name, function.description)
    parameters = json_text(function.parameters, f"tools[{index}].function.parameters")
    return Tool(function.name, function.description, parameters)


def _with_choice(options: ChatOptions, choice: ToolChoice) -> ChatOptions:
    match choice:
        case "none" | "auto" | "required":
            return replace(options, tool_choice=choice)
        case NamedTool(type="function", function=FunctionName(name=name)):
            return replace(options, tool_choice="named", tool_name=name)
    raise invalid("tool_choice must be none, auto, required or a function by its name.", "tool_choice")
