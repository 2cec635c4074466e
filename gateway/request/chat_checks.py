"""What a chat may ask of its model's template, checked before a text process gets it."""

import re
from typing import Final

import msgspec

from gateway.request.dialect import Dialect
from gateway.request.params import invalid
from shared.messages import ChatMessage, ChatOptions

MAX_TOOLS: Final = 128  # as OpenAI's
MAX_TOOL_BYTES: Final = 256 << 10  # of all tools together
MAX_KWARGS_BYTES: Final = 16 << 10
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")  # as OpenAI's
_object_decoder: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def check_chat(messages: tuple[ChatMessage, ...], options: ChatOptions, dialect: Dialect, model: str) -> None:
    """Raises RequestError naming the first field at fault."""
    _check_tools(options)
    _check_choice(options)
    if options.tools and options.tool_choice != "none" and dialect.tools is None:
        raise invalid(f"Tools are not supported by the chat template of the model {model!r}.", "tools")
    if options.add_generation_prompt and options.continue_final_message:
        raise invalid(
            "Only one of add_generation_prompt and continue_final_message may be true.", "continue_final_message"
        )
    if len(options.template_kwargs) > MAX_KWARGS_BYTES:
        raise invalid(f"chat_template_kwargs may have at most {MAX_KWARGS_BYTES} bytes.", "chat_template_kwargs")
    _object(options.template_kwargs, "chat_template_kwargs")
    for index, message in enumerate(messages):
        for number, call in enumerate(message.tool_calls):
            _object(call.arguments, f"messages[{index}].tool_calls[{number}].function.arguments")


def _check_tools(options: ChatOptions) -> None:
    if len(options.tools) > MAX_TOOLS:
        raise invalid(f"tools may have at most {MAX_TOOLS} entries, got {len(options.tools)}.", "tools")
    if sum(len(tool.parameters) + len(tool.description or "") for tool in options.tools) > MAX_TOOL_BYTES:
        raise invalid(f"tools may have at most {MAX_TOOL_BYTES} bytes together.", "tools")
    names: set[str] = set()
    for index, tool in enumerate(options.tools):
        if not _NAME.fullmatch(tool.name):
            raise invalid(
                "The name of a function must have 1 to 64 letters, digits, underscores and dashes.",
                f"tools[{index}].function.name",
            )
        if tool.name in names:
            raise invalid(f"There are two functions of the name {tool.name!r}.", f"tools[{index}].function.name")
        names.add(tool.name)
        _object(tool.parameters, f"tools[{index}].function.parameters")


def _check_choice(options: ChatOptions) -> None:
    if options.tool_choice in ("required", "named") and not options.tools:
        raise invalid("tool_choice needs tools to choose from.", "tool_choice")
    if options.tool_choice == "named" and all(tool.name != options.tool_name for tool in options.tools):
        raise invalid(f"There is no function of the name {options.tool_name[:64]!r} in tools.", "tool_choice")


def _object(text: str, param: str) -> None:
    """Raises RequestError for what is not the text of a JSON object. Builds no values: texts may be large."""
    try:
        _object_decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise invalid(f"{param} must be a JSON object: {str(error)[:200]}", param) from None
