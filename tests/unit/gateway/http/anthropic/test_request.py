"""Anthropic's requests as the chats that they mean."""

import json
from typing import Any

import pytest

from gateway.http.anthropic.request import MessagesRequest, messages_decoder
from gateway.http.bodies import parse
from shared.errors import RequestError
from shared.messages import ChatMessage, ChatOptions, Tool, ToolCall

HELLO = [{"role": "user", "content": "hello"}]
LOOK = {"name": "look", "description": "looks", "input_schema": {"type": "object"}}


def request(**fields: Any) -> MessagesRequest:
    return parse(json.dumps({"model": "m", "max_tokens": 9, "messages": HELLO} | fields).encode(), messages_decoder)


def messages(*given: dict[str, Any]) -> tuple[ChatMessage, ...]:
    return request(messages=list(given)).chat().messages


def test_tools_are_called_and_answered_over_several_turns() -> None:
    use = {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": 1}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "a fox"}]}
    empty = {"type": "tool_result", "tool_use_id": "t2", "is_error": True}
    assert messages(
        *HELLO,
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "ok"}, use]},
        {"role": "user", "content": [result, empty, {"type": "text", "text": "well?"}]},
    ) == (
        ChatMessage("user", "hello"),
        ChatMessage("assistant", "ok", tool_calls=(ToolCall("t1", "look", '{"at":1}'),), reasoning="hm"),
        ChatMessage("tool", "a fox", tool_call_id="t1"),
        ChatMessage("tool", "", tool_call_id="t2"),
        ChatMessage("user", "well?"),
    )


def test_results_alone_make_no_message_of_the_user() -> None:
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "a fox"}
    assert messages({"role": "user", "content": [result]}) == (ChatMessage("tool", "a fox", tool_call_id="t1"),)


@pytest.mark.parametrize(
    ("role", "block"),
    [
        ("user", {"type": "tool_use", "id": "t", "name": "look", "input": {}}),
        ("assistant", {"type": "tool_result", "tool_use_id": "t", "content": "x"}),
    ],
)
def test_blocks_in_messages_of_the_wrong_role(role: str, block: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as caught:
        messages({"role": role, "content": [block]})
    assert caught.value.param == "messages[0].content"


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ("auto", "", True)),
        ({"type": "auto"}, ("auto", "", True)),
        ({"type": "auto", "disable_parallel_tool_use": True}, ("auto", "", False)),
        ({"type": "any"}, ("required", "", True)),
        ({"type": "tool", "name": "look", "disable_parallel_tool_use": True}, ("named", "look", False)),
        ({"type": "none"}, ("none", "", True)),
    ],
)
def test_tool_choices(choice: dict[str, Any] | None, expected: tuple[str, str, bool]) -> None:
    options = request(tools=[LOOK], tool_choice=choice).chat().options
    assert (options.tool_choice, options.tool_name, options.parallel_tool_calls) == expected
    assert options.tools == (Tool("look", "looks", '{"type":"object"}'),)


@pytest.mark.parametrize(("kind", "shown"), [("enabled", "true"), ("adaptive", "true"), ("disabled", "false")])
def test_thinking_is_a_variable_of_the_template(kind: str, shown: str) -> None:
    options = request(thinking={"type": kind, "budget_tokens": 1024}).chat().options
    assert options.template_kwargs == f'{{"enable_thinking":{shown}}}'
    assert request().chat().options == ChatOptions()


def test_a_last_message_of_the_assistant_is_gone_on_with() -> None:
    options = request(messages=[*HELLO, {"role": "assistant", "content": "The best is ("}]).chat().options
    assert (options.add_generation_prompt, options.continue_final_message) == (False, True)


def test_an_output_format_is_a_schema() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    call = request(output_config={"effort": "low", "format": {"type": "json_schema", "schema": schema}}).call("c", 0.0)
    assert call.params.response_format is not None and call.params.response_format.json_schema is not None
    assert call.params.response_format.json_schema.schema == schema


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search", "input_schema": {}}]}, "tools[0].type"),
        ({"tools": [{"name": "look"}]}, "tools[0].input_schema"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "all"}}, "tool_choice.type"),
        ({"system": [{"type": "image"}]}, "system[0].type"),
    ],
)
def test_refusals_name_the_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        request(**fields).call("c", 0.0)
    assert caught.value.param == param
