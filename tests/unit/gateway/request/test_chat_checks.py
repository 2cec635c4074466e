from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from gateway.request.chat_checks import MAX_KWARGS_BYTES, MAX_TOOL_BYTES, MAX_TOOLS, check_chat
from gateway.request.dialect import Dialect
from gateway.tools.formats import HERMES
from shared.errors import RequestError
from shared.messages import ChatMessage, ChatOptions, Tool, ToolCall

HELLO = (ChatMessage("user", "hello"),)
NOW = Tool("now", "What time is it?")


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


def refused(messages: tuple[ChatMessage, ...] = HELLO, **options: Any) -> str | None:
    """Which field is."""
    try:
        check_chat(messages, ChatOptions(**options), Dialect(HERMES), "tiny")
    except RequestError as error:
        return error.param
    return None


def called(arguments: str) -> tuple[ChatMessage, ...]:
    return (*HELLO, ChatMessage("assistant", "", (ToolCall("c", "now", arguments),)))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tools": (NOW,)},
        {"tools": (NOW,), "tool_choice": "named", "tool_name": "now"},
        {"tools": (NOW,), "tool_choice": "required"},
        {"tools": tuple(Tool(f"tool_{i}-A") for i in range(MAX_TOOLS))},
        {"template_kwargs": '{"enable_thinking": false}'},
        {"add_generation_prompt": False, "continue_final_message": True},
        {"tools": (Tool("deep", None, nested(100)),)},
    ],
)
def test_what_is_accepted(options: Mapping[str, Any]) -> None:
    assert refused(**options) is None


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"tools": tuple(Tool(f"t{i}") for i in range(MAX_TOOLS + 1))}, "tools"),
        ({"tools": (Tool("a", "x" * MAX_TOOL_BYTES),)}, "tools"),
        ({"tools": (NOW, Tool("what time"))}, "tools[1].function.name"),
        ({"tools": (Tool("a" * 65),)}, "tools[0].function.name"),
        ({"tools": (Tool(""),)}, "tools[0].function.name"),
        ({"tools": (NOW, NOW)}, "tools[1].function.name"),
        ({"tools": (Tool("a", None, "[]"),)}, "tools[0].function.parameters"),
        ({"tools": (Tool("a", None, nested(100_000)),)}, "tools"),
        ({"tools": (Tool("a", None, nested(20_000)),)}, "tools[0].function.parameters"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "named", "tool_name": "now"}, "tool_choice"),
        ({"tools": (NOW,), "tool_choice": "named", "tool_name": "then"}, "tool_choice"),
        ({"continue_final_message": True}, "continue_final_message"),
        ({"template_kwargs": "1"}, "chat_template_kwargs"),
        ({"template_kwargs": '{"a": '}, "chat_template_kwargs"),
        ({"template_kwargs": msgspec.json.encode({"a": "x" * MAX_KWARGS_BYTES}).decode()}, "chat_template_kwargs"),
        ({"messages": called('{"a": 1')}, "messages[1].tool_calls[0].function.arguments"),
        ({"messages": called(nested(20_000))}, "messages[1].tool_calls[0].function.arguments"),
        ({"messages": called('"now"')}, "messages[1].tool_calls[0].function.arguments"),
    ],
)
def test_what_is_refused(options: Mapping[str, Any], param: str) -> None:
    assert refused(**options) == param


def test_tools_need_a_template_that_has_them_unless_none_may_be_called() -> None:
    check_chat(HELLO, ChatOptions(), Dialect(), "tiny")
    options = ChatOptions(tools=(NOW,))
    with pytest.raises(RequestError, match="not supported by the chat template of the model 'tiny'") as caught:
        check_chat(HELLO, options, Dialect(), "tiny")
    assert caught.value.param == "tools"
    check_chat(HELLO, msgspec.structs.replace(options, tool_choice="none"), Dialect(), "tiny")
