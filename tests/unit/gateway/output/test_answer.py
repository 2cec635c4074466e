from gateway.output.answer import AnswerReader, Parts, joined, whole_calls
from gateway.output.reasoning import ReasoningFormat, ReasoningSplitter
from gateway.tools.formats import HERMES
from gateway.tools.parser import ToolCallParser
from shared.messages import ToolCall, ToolCallPiece

TEXT = '<think>\nA city.\n</think>\n\nI ask.\n<tool_call>\n{"name": "now", "arguments": {"zone": "CET"}}\n</tool_call>'


def reader() -> AnswerReader:
    splitter = ReasoningSplitter(ReasoningFormat("<think>", "</think>"), has_begun=False)
    return AnswerReader(splitter, ToolCallParser(HERMES, frozenset({"now"}), lambda: "id"))


def test_reasoning_then_content_then_calls() -> None:
    parts = reader().feed(TEXT, is_last=True)
    assert (parts.reasoning, parts.content) == ("A city.", "I ask.")
    assert whole_calls(parts.tool_calls) == (ToolCall("id", "now", '{"zone": "CET"}'),)


def test_what_is_held_is_what_is_not_out_yet_character_by_character() -> None:
    """Whatever was dropped, the rest of the text is a tail of it."""
    answer = reader()
    every = []
    for char in TEXT:
        every.append(answer.feed(char))
        assert 0 <= answer.num_held <= len("\n<tool_call>\n") + len('{"name": "now", "arguments": ')
    every.append(answer.feed("", is_last=True))
    assert answer.num_held == 0
    parts = joined(every)
    assert (parts.reasoning, parts.content) == ("A city.", "I ask.")
    assert answer.has_calls and not answer.is_reasoning and not answer.is_complete


def test_calls_in_reasoning_are_reasoning() -> None:
    answer = reader()
    text = '<think>I could say <tool_call>{"name": "now", "arguments": {}}</tool_call>.</think>Four.'
    parts = answer.feed(text, is_last=True)
    assert parts.content == "Four." and not answer.has_calls
    assert "<tool_call>" in parts.reasoning


def test_without_splitter_and_parser_all_is_content() -> None:
    answer = AnswerReader()
    assert answer.feed(TEXT) == Parts(TEXT)
    assert answer.num_held == 0 and not answer.is_reasoning and not answer.has_calls


def test_whole_calls_are_their_pieces_in_order() -> None:
    pieces = [
        ToolCallPiece(0, id="a", name="now"),
        ToolCallPiece(0, "{"),
        ToolCallPiece(1, id="b", name="then"),
        ToolCallPiece(0, "}"),
        ToolCallPiece(1, "{}"),
    ]
    assert whole_calls(pieces) == (ToolCall("a", "now", "{}"), ToolCall("b", "then", "{}"))
