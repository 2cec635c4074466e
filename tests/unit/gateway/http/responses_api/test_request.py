"""Responses' input as the chat that it means."""

import json
from typing import Any

import pytest

from gateway.http.bodies import parse
from gateway.http.responses_api.request import ResponsesRequest, responses_decoder
from gateway.request.prompts import Chat
from shared.errors import RequestError
from shared.messages import ChatMessage, Tool, ToolCall

LOOK = {"type": "function", "name": "look", "description": "looks", "parameters": {"type": "object"}}


def request(given: object = "hello", **fields: Any) -> ResponsesRequest:
    return parse(json.dumps({"model": "m", "input": given} | fields).encode(), responses_decoder)


def chat(given: object = "hello", **fields: Any) -> Chat:
    [prompt] = request(given, **fields).call("c", 0.0).prompts
    assert isinstance(prompt, Chat)
    return prompt


def test_a_text_is_a_message_of_the_user_after_the_instructions() -> None:
    assert chat().messages == (ChatMessage("user", "hello"),)
    assert chat(instructions="be kind").messages == (ChatMessage("system", "be kind"), ChatMessage("user", "hello"))


def test_items_of_a_conversation_with_calls() -> None:
    parts = [{"type": "input_text", "text": "one"}, {"type": "input_text", "text": "two"}]
    items = [
        {"role": "developer", "content": "be kind"},
        {"type": "message", "role": "user", "content": parts},
        {"type": "reasoning", "id": "rs", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "message", "id": "m", "role": "assistant", "content": [{"type": "output_text", "text": "ok"}]},
        {"type": "function_call", "id": "fc", "call_id": "c1", "name": "look", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "look", "arguments": '{"at":1}'},
        {"type": "function_call_output", "call_id": "c1", "output": "a fox"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "a dog"}]},
    ]
    calls = (ToolCall("c1", "look", "{}"), ToolCall("c2", "look", '{"at":1}'))
    assert chat(items).messages == (
        ChatMessage("developer", "be kind"),
        ChatMessage("user", "one\ntwo"),
        ChatMessage("assistant", "ok", tool_calls=calls, reasoning="hm"),
        ChatMessage("tool", "a fox", tool_call_id="c1"),
        ChatMessage("tool", "a dog", tool_call_id="c2"),
    )


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ("auto", "")),
        ("required", ("required", "")),
        ("none", ("none", "")),
        ({"type": "function", "name": "look"}, ("named", "look")),
    ],
)
def test_tools(choice: object, expected: tuple[str, str]) -> None:
    options = chat(
        tools=[LOOK, {"type": "function", "name": "go"}], tool_choice=choice, parallel_tool_calls=False
    ).options
    assert options.tools == (Tool("look", "looks", '{"type":"object"}'), Tool("go"))
    assert (options.tool_choice, options.tool_name, options.parallel_tool_calls) == (*expected, False)


def test_a_text_format_is_a_response_format() -> None:
    schema = {"type": "object"}
    given = {"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}}
    form = request(text=given).call("c", 0.0).params.response_format
    assert form is not None and form.json_schema is not None
    assert (form.type, form.json_schema.schema) == ("json_schema", schema)
    plain = request(text={"verbosity": "low"}).call("c", 0.0).params.response_format
    assert plain is not None and plain.type == "text"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"given": []}, "input"),
        ({"given": [{"content": "x"}]}, "input[0].role"),
        ({"given": [{"role": "user"}]}, "input[0].content"),
        ({"given": [{"role": "user", "content": "x"}, {"type": "function_call", "name": "f"}]}, "input[1].call_id"),
        ({"given": [{"type": "function_call_output", "call_id": "c"}]}, "input[0].output"),
        ({"given": [{"type": "web_search_call", "id": "w"}]}, "input[0].type"),
        ({"given": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].type"),
        ({"previous_response_id": "resp-1"}, "previous_response_id"),
        ({"conversation": "conv-1"}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"truncation": "auto"}, "truncation"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
    ],
)
def test_refusals_name_the_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        request(**fields).call("c", 0.0)
    assert caught.value.param == param


def test_what_asks_for_nothing_is_accepted() -> None:
    more = {"store": False, "background": False, "truncation": "disabled", "top_logprobs": 0, "include": ["x"]}
    assert chat(**more, reasoning={"effort": "low"}, metadata={"a": "b"}, user="me").messages
