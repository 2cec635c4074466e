"""What templates get to see. Rendering itself is tested with real text processes."""

from gateway.text.chat import template_messages, template_tools, template_variables
from shared.messages import ChatMessage, ChatOptions, Tool, ToolCall

WEATHER = Tool("get_weather", "Of a city", '{"type":"object","properties":{"city":{"type":"string"}}}')
SHOWN_WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
WITH_TOOLS = ChatOptions(tools=(WEATHER,))
CHAT = (
    ChatMessage("user", "Paris?"),
    ChatMessage("assistant", "", (ToolCall("c1", "get_weather", '{"city": "Paris"}'),), reasoning="A city."),
    ChatMessage("tool", "sunny", tool_call_id="c1"),
)


def test_tools_are_as_in_openais_api() -> None:
    assert template_tools(WITH_TOOLS) == [SHOWN_WEATHER]
    [now] = template_tools(ChatOptions(tools=(Tool("now"),))) or []
    assert now["function"] == {"name": "now", "parameters": {"type": "object", "properties": {}}}
    assert template_tools(ChatOptions()) is None


def test_a_model_that_must_not_call_tools_does_not_hear_of_them() -> None:
    assert template_tools(ChatOptions(tools=(WEATHER,), tool_choice="none")) is None


def test_arguments_are_objects_and_a_result_has_the_name_of_its_function() -> None:
    assert template_messages(CHAT, None, "") == [
        {"role": "user", "content": "Paris?"},
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "A city.",
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": {"city": "Paris"}},
                }
            ],
        },
        {"role": "tool", "content": "sunny", "tool_call_id": "c1", "name": "get_weather"},
    ]


def test_a_developer_is_the_system_where_the_template_does_not_know_it() -> None:
    chat = (ChatMessage("developer", "Be brief."), ChatMessage("user", "Hi", name="Ann"))
    shown = template_messages(chat, None, "{{ message.role }}")
    assert [message["role"] for message in shown] == ["system", "user"]
    assert shown[1]["name"] == "Ann"
    assert template_messages(chat, None, "{% if role == 'developer' %}")[0]["role"] == "developer"


def test_tools_are_in_the_system_message_where_the_template_looks_for_them() -> None:
    template = "{{ '<|tool|>' + message['tools'] + '<|/tool|>' }}"
    [system, *_] = template_messages(CHAT, template_tools(WITH_TOOLS), template)
    assert (system["role"], system["content"]) == ("system", "")
    assert system["tools"].startswith('[{"name":"get_weather","description":"Of a city"')
    chat = (ChatMessage("system", "Be brief."), *CHAT)
    [system, *rest] = template_messages(chat, template_tools(WITH_TOOLS), template)
    assert system["content"] == "Be brief." and "get_weather" in system["tools"] and len(rest) == len(CHAT)
    assert "tools" not in template_messages(chat, None, template)[0]


def test_variables_are_the_clients_and_another_name_of_the_tools() -> None:
    options = ChatOptions(tools=(WEATHER,), template_kwargs='{"enable_thinking": false}')
    tools = template_tools(options)
    assert template_variables(options, tools, "{{ tools }}") == {"enable_thinking": False}
    assert template_variables(options, tools, "{{ xml_tools }}") == {"enable_thinking": False, "xml_tools": tools}
    assert template_variables(options, None, "{{ xml_tools }}") == {"enable_thinking": False}
