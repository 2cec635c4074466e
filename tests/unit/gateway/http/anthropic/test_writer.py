"""An answer's parts as Anthropic's blocks, whole and as events."""

from gateway.http.anthropic.response import (
    Block,
    BlockDelta,
    BlockStart,
    BlockStop,
    InputDelta,
    StreamEvent,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolUse,
    blocks_of,
)
from gateway.http.anthropic.writer import BlockEvents
from gateway.output.answer import Parts
from shared.messages import ToolCallPiece

CALLS = (
    ToolCallPiece(0, "", "t0", "look"),
    ToolCallPiece(0, '{"at"'),
    ToolCallPiece(0, ":1}"),
    ToolCallPiece(1, "{}", "t1", "go"),
)


def events_of(*parts: Parts) -> list[StreamEvent]:
    writer = BlockEvents()
    return [event for part in parts for event in writer.write(part)] + writer.close()


def test_one_block_after_the_other_each_closed_once() -> None:
    assert events_of(Parts(reasoning="h"), Parts("a", "m"), Parts("b"), Parts(tool_calls=CALLS)) == [
        BlockStart(0, Thinking("")),
        BlockDelta(0, ThinkingDelta("h")),
        BlockDelta(0, ThinkingDelta("m")),
        BlockStop(0),
        BlockStart(1, Text("")),
        BlockDelta(1, TextDelta("a")),
        BlockDelta(1, TextDelta("b")),
        BlockStop(1),
        BlockStart(2, ToolUse("t0", "look", {})),
        BlockDelta(2, InputDelta('{"at"')),
        BlockDelta(2, InputDelta(":1}")),
        BlockStop(2),
        BlockStart(3, ToolUse("t1", "go", {})),
        BlockDelta(3, InputDelta("{}")),
        BlockStop(3),
    ]


def test_nothing_has_no_block() -> None:
    assert events_of(Parts()) == events_of() == []
    assert blocks_of(Parts()) == []


def test_a_whole_answer() -> None:
    blocks: list[Block] = [Thinking("hm"), Text("ab"), ToolUse("t0", "look", {"at": 1}), ToolUse("t1", "go", {})]
    assert blocks_of(Parts("ab", "hm", CALLS)) == blocks


def test_input_that_is_no_object_is_not_lost() -> None:
    for text in ('{"at":', "[1]", "5"):
        assert blocks_of(Parts(tool_calls=(ToolCallPiece(0, text, "t", "look"),))) == [
            ToolUse("t", "look", {"invalid_json": text})
        ]
