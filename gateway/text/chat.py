"""A chat as the model's template writes it. Here alone is known what templates expect of messages and tools."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from shared.messages import ChatMessage, ChatOptions, Tool

_decode: Final = msgspec.json.decode
_TOOLS_OF_A_MESSAGE: Final = ("message['tools']", 'message["tools"]')


def render(tokenizer: Any, messages: Sequence[ChatMessage], options: ChatOptions) -> str:
    """By transformers' tokenizer, in Jinja's sandbox. Raises whatever the template does, and ValueError."""
    tools = template_tools(options)
    template = tokenizer.get_chat_template(tools=tools)
    variables = template_variables(options, tools, template)
    taken = variables.keys() & (inspect.signature(tokenizer.apply_chat_template).parameters.keys() | {"messages"})
    if taken:
        raise ValueError(f"chat_template_kwargs may not have {min(taken)!r}")
    return tokenizer.apply_chat_template(
        template_messages(messages, tools, template),
        tools=tools,
        tokenize=False,
        add_generation_prompt=options.add_generation_prompt,
        continue_final_message=options.continue_final_message,
        **variables,
    )


def template_of(tokenizer: Any) -> str:
    """The one that is used with tools, where there are several; empty: there is none."""
    try:
        return tokenizer.get_chat_template(tools=[{}])
    except ValueError:
        return ""


def template_tools(options: ChatOptions) -> list[dict[str, Any]] | None:
    """Each as OpenAI's API has it. A model that must not call tools does not hear of them."""
    if options.tool_choice == "none" or not options.tools:
        return None
    return [{"type": "function", "function": _function(tool)} for tool in options.tools]


def template_messages(
    messages: Sequence[ChatMessage], tools: Sequence[Mapping[str, Any]] | None, template: str
) -> list[dict[str, Any]]:
    """With what templates rely on and clients leave out."""
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    chat = [_message(message, names) for message in messages]
    if "developer" not in template:
        for each in chat:
            if each["role"] == "developer":
                each["role"] = "system"  # its name before
    if tools and any(mark in template for mark in _TOOLS_OF_A_MESSAGE):  # Phi-4-mini
        if not chat or chat[0]["role"] != "system":
            chat.insert(0, {"role": "system", "content": ""})
        chat[0]["tools"] = msgspec.json.encode([tool["function"] for tool in tools]).decode()
    return chat


def template_variables(
    options: ChatOptions, tools: Sequence[Mapping[str, Any]] | None, template: str
) -> dict[str, Any]:
    variables = _decode(options.template_kwargs, type=dict[str, Any])
    if tools and "xml_tools" in template:  # SmolLM3's first template knows them by this name only
        variables.setdefault("xml_tools", tools)
    return variables


def _function(tool: Tool) -> dict[str, Any]:
    description = {} if tool.description is None else {"description": tool.description}
    return {"name": tool.name, **description, "parameters": _decode(tool.parameters)}


def _message(message: ChatMessage, names: Mapping[str, str]) -> dict[str, Any]:
    """`names`: of the functions that were called, by the calls' ids."""
    shown: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning is not None:
        shown["reasoning_content"] = message.reasoning
    if message.tool_calls:
        shown["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _decode(call.arguments)}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        shown["tool_call_id"] = message.tool_call_id
    if name := message.name or names.get(message.tool_call_id or ""):
        shown["name"] = name  # Hermes' template wants it of a tool's message
    return shown
