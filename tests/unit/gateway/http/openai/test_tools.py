"""Tools and messages as clients write them."""

from typing import Any

import msgspec
import pytest

from gateway.http.openai.chat import ChatRequest
from gateway.request.prompts import Chat
from shared.errors import RequestError
from shared.messages import ChatMessage, ChatOptions, Tool, ToolCall

WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "description": "Of a city", "parameters": {"type": "object"}, "strict": True},
}


def chat(messages: list[dict[str, Any]] | None = None, **fields: Any) -> Chat:
    messages = messages or [{"role": "user", "content": "hi"}]
    body = msgspec.json.encode({"model": "tiny", "messages": messages, **fields})
    [prompt] = msgspec.json.decode(body, type=ChatRequest).call("id", 0.0).prompts
    assert isinstance(prompt, Chat)
    return prompt


def options(**fields: Any) -> ChatOptions:
    return chat(**fields).options


def test_nothing_asked_for_is_the_default() -> None:
    assert options() == ChatOptions()


def test_tools_and_who_chooses() -> None:
    tools = (Tool("get_weather", "Of a city", '{"type":"object"}'), Tool("now"))
    given = [WEATHER, {"type": "function", "function": {"name": "now"}}]
    assert options(tools=given) == ChatOptions(tools=tools)
    assert options(tools=given, tool_choice="required").tool_choice == "required"
    named = options(tools=given, tool_choice={"type": "function", "function": {"name": "now"}})
    assert (named.tool_choice, named.tool_name) == ("named", "now")
    assert options(tools=given, parallel_tool_calls=False).parallel_tool_calls is False


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [WEATHER, {"type": "custom", "custom": {"name": "x"}}]}, "tools[1].type"),
        ({"tools": [WEATHER], "tool_choice": "any"}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"functions": [{"name": "f"}]}, "functions"),
    ],
)
def test_what_is_not_there_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        chat(**fields)
    assert caught.value.param == param


def test_how_the_chat_is_rendered() -> None:
    assert options(chat_template_kwargs={"enable_thinking": False}).template_kwargs == '{"enable_thinking":false}'
    assert options(add_generation_prompt=False).add_generation_prompt is False
    continued = options(continue_final_message=True)
    assert continued.continue_final_message and not continued.add_generation_prompt
    both = options(continue_final_message=True, add_generation_prompt=True)
    assert both.continue_final_message and both.add_generation_prompt  # refused later, by name


def test_a_chat_with_calls_results_and_reasoning() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "developer", "content": [{"type": "text", "text": "Be"}, {"type": "text", "text": "brief."}]},
        {"role": "user", "content": "Paris?", "name": "Ann"},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "A city.",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Paris"}'}},
                {"id": "c2", "type": "function", "function": {"name": "now", "arguments": ""}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]
    assert chat(messages).messages == (
        ChatMessage("developer", "Be\nbrief."),
        ChatMessage("user", "Paris?", name="Ann"),
        ChatMessage(
            "assistant",
            "",
            (ToolCall("c1", "get_weather", '{"city":"Paris"}'), ToolCall("c2", "now", "{}")),
            reasoning="A city.",
        ),
        ChatMessage("tool", "sunny", tool_call_id="c1"),
    )


def test_reasoning_goes_by_either_name() -> None:
    [message] = chat([{"role": "assistant", "content": "4", "reasoning": "2 + 2"}]).messages
    assert message.reasoning == "2 + 2"
