from gateway.http.turns import merged
from shared.messages import ChatMessage, ToolCall

CALLS = tuple(ToolCall(f"call-{index}", "look", "{}") for index in range(2))


def test_a_run_of_one_role_is_one_message_with_all_that_it_had() -> None:
    run = [
        ChatMessage("assistant", "", reasoning="hm"),
        ChatMessage("assistant", "one", tool_calls=CALLS[:1]),
        ChatMessage("assistant", "two", tool_calls=CALLS[1:]),
    ]
    user = ChatMessage("user", "go")
    assert merged([user, *run, user], "assistant") == (
        user,
        ChatMessage("assistant", "one\ntwo", tool_calls=CALLS, reasoning="hm"),
        user,
    )


def test_other_roles_stay_as_they_are() -> None:
    results = [ChatMessage("tool", "1", tool_call_id="a"), ChatMessage("tool", "2", tool_call_id="b")]
    assert merged(results, "user", "assistant") == tuple(results)
    assert merged([], "user") == ()
