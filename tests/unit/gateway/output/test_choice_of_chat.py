"""A chat's answer, token by token: its parts, what counts as written, how it ends."""

from gateway.output.answer import whole_calls
from gateway.output.choice import Delta, merged
from gateway.output.reasoning import ReasoningFormat
from gateway.request.dialect import Dialect
from gateway.request.expected import expect
from gateway.tools.formats import HERMES
from shared.ids import RequestId
from shared.messages import ChatOptions, Ended, Tool
from tests.unit.gateway.output.choice_reading import VOCABULARY, ChoiceReading, ids
from tests.unit.gateway.tiny_models import EOS_ID

NOW = '<tool_call>{"name": "now", "arguments": {"zone": "CET"}}</tool_call>'
DIALECT = Dialect(HERMES, ReasoningFormat("<think>", "</think>"))


class Answer(ChoiceReading):
    def __init__(self, *stops: str, parallel: bool = True) -> None:
        options = ChatOptions(tools=(Tool("now"),), parallel_tool_calls=parallel)
        expected = expect(DIALECT, options, (5, 6, 7), VOCABULARY, None)
        super().__init__(stops, reading=expected.open_reading())

    def get(self, text: str, ended: Ended | None = None) -> list[Delta]:
        """Of its tokens, one after the other."""
        token_ids = ids(text)
        if ended is not None and ended.reason == "stop":
            token_ids.append(EOS_ID)
        deltas = []
        for index, token_id in enumerate(token_ids):
            self.sequence.append(len(self.sequence.output), (token_id,), 0.0)
            if index + 1 == len(token_ids):
                self.sequence.ended = ended
            if delta := self.choice.take():
                self.choice.written(delta)
                deltas.append(delta)
        return deltas


def test_reasoning_content_and_calls_in_one_answer() -> None:
    answer = Answer()
    deltas = answer.get(f"<think>\nHm.\n</think>\n\nI look.\n{NOW}", Ended("stop"))
    whole = merged(deltas)
    assert (whole.reasoning, whole.text, whole.finish_reason) == ("Hm.", "I look.", "tool_calls")
    [call] = whole_calls(whole.tool_calls)
    assert (call.name, call.arguments) == ("now", '{"zone": "CET"}')
    assert len([delta for delta in deltas if delta.tool_calls]) > 3  # as they come
    answer.choice.close()
    assert answer.office.finished[0].finish_reason == "tool_calls"


def test_tokens_count_as_out_with_the_part_that_they_are_in() -> None:
    answer = Answer()
    [*_, last] = answer.get('<tool_call>{"name": "now", ')
    assert last.num_tokens_out == 0
    [*_, last] = answer.get('"arguments": {')
    assert last.num_tokens_out == answer.choice.num_output_tokens
    [*_, last] = answer.get("}}</tool_call>", Ended("stop"))
    assert last.num_tokens_out == answer.choice.num_output_tokens


def test_tokens_of_reasoning_are_counted() -> None:
    answer = Answer()
    answer.get("<think>")
    before = answer.choice.num_reasoning_tokens
    deltas = answer.get("one two</think>")
    assert answer.choice.num_reasoning_tokens == before + len(deltas)
    answer.get("three", Ended("stop"))
    assert answer.choice.num_reasoning_tokens == before + len(deltas)


def test_a_call_cut_by_max_tokens_ends_with_length() -> None:
    whole = merged(Answer().get(NOW[:-20], Ended("length")))
    assert whole.finish_reason == "length"
    assert whole_calls(whole.tool_calls)[0].arguments == NOW[NOW.index('{"zone') : -20]


def test_without_parallel_calls_the_sequence_ends_with_the_first() -> None:
    answer = Answer(parallel=False)
    deltas = answer.get(NOW + NOW)
    assert deltas[-1].finish_reason == "tool_calls"
    assert answer.office.cancelled == [RequestId("r")]
    assert len(whole_calls(merged(deltas).tool_calls)) == 1
    assert answer.choice.num_output_tokens < len(ids(NOW + NOW)) / 2 + 1


def test_a_stop_string_ends_it_and_nothing_that_was_held_is_lost() -> None:
    whole = merged(Answer("xyz").get("a <tool_call> xyz"))
    assert (whole.text, whole.finish_reason) == ("a <tool_call> ", "stop")
