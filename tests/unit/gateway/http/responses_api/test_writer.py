"""An answer's parts as output items and their events."""

from gateway.http.responses_api.events import StreamEvent
from gateway.http.responses_api.response import FunctionCallItem, MessageItem, ReasoningItem, Status
from gateway.http.responses_api.writer import OutputItems
from gateway.output.answer import Parts
from shared.messages import ToolCallPiece

CALLS = (ToolCallPiece(0, "", "c0", "look"), ToolCallPiece(0, '{"at":1}'), ToolCallPiece(1, "{}", "c1", "go"))


def written(*parts: Parts, status: Status = "completed") -> tuple[OutputItems, list[StreamEvent]]:
    items = OutputItems()
    events = [event for part in parts for event in items.write(part)]
    return items, events + items.close(status)


def names(events: list[StreamEvent]) -> list[str]:
    return [str(event.__struct_config__.tag).removeprefix("response.") for event in events]


def test_items_come_one_after_the_other() -> None:
    items, events = written(Parts(reasoning="h"), Parts("a", "m"), Parts("b", tool_calls=CALLS))
    text = ["output_item.added", "content_part.added"], ["content_part.done", "output_item.done"]
    call = ["output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"]
    assert names(events) == [
        *text[0], "reasoning_text.delta", "reasoning_text.delta", "reasoning_text.done", *text[1],
        *text[0], "output_text.delta", "output_text.delta", "output_text.done", *text[1],
        *call,
        *call,
    ]  # fmt: skip
    reasoning, message, look, go = items.done
    assert isinstance(reasoning, ReasoningItem) and [part.text for part in reasoning.content] == ["hm"]
    assert isinstance(message, MessageItem) and [part.text for part in message.content] == ["ab"]
    assert isinstance(look, FunctionCallItem) and (look.call_id, look.name, look.arguments) == (
        "c0",
        "look",
        '{"at":1}',
    )
    assert isinstance(go, FunctionCallItem) and (go.call_id, go.name, go.arguments) == ("c1", "go", "{}")
    assert {item.status for item in items.done} == {"completed"}


def test_only_what_is_open_at_the_end_is_incomplete() -> None:
    items, _ = written(Parts("a", "hm"), status="incomplete")
    assert [item.status for item in items.done] == ["completed", "incomplete"]


def test_ids_are_the_same_in_all_events_of_an_item() -> None:
    items, events = written(Parts("a"), Parts("b"))
    ids = {getattr(event, "item_id", None) or event.item.id for event in events}  # type: ignore[attr-defined]
    assert ids == {items.done[0].id}


def test_nothing_has_no_item() -> None:
    items, events = written(Parts())
    assert (items.done, events) == ([], [])
