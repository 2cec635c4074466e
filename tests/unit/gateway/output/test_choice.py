"""A sequence's tokens as text, and when they count as written, on a clock that stands until it is set."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.output.choice import Delta
from shared.errors import ErrorCode, RequestError
from shared.ids import RequestId
from shared.messages import Ended, RequestFinished, TokenLogprobs
from shared.slo import Slo
from tests.unit.gateway.output.choice_reading import ChoiceReading, ids
from tests.unit.gateway.tiny_models import EOS_ID, byte_level

SLO = Slo(ttft_s=2.0, tbt_s=0.5)


class Reading(ChoiceReading):
    def __init__(self, *stops: str, max_tokens: int = 50, **wanted: Any) -> None:
        super().__init__(stops, max_tokens=max_tokens, slo=SLO, **wanted)
        self.has_logprobs = False

    def get(self, at_s: float, *token_ids: int, ended: Ended | RequestError | None = None) -> Delta | None:
        """They arrive at that time, and what they complete is written at once."""
        self.now_s = at_s
        logprobs = tuple(TokenLogprobs(token_id, -1.0) for token_id in token_ids)
        self.sequence.append(len(self.sequence.output), token_ids, at_s, logprobs if self.has_logprobs else ())
        self.sequence.ended = ended
        if delta := self.choice.take():
            self.choice.written(delta)
        return delta

    @property
    def judged(self) -> tuple[int, int]:
        return self.of_model.num_on_time, self.of_model.num_due

    def close(self, at_s: float) -> RequestFinished:
        self.now_s = at_s
        self.choice.close()
        [finished] = self.office.finished
        assert (finished.num_on_time_tokens, finished.num_due_tokens) == self.judged
        return finished


def test_each_token_is_measured_at_its_own_write() -> None:
    reading = Reading()
    first, second, third = ids("fox dog")
    reading.get(2.0, first)
    assert reading.judged == (1, 1)
    reading.get(2.6, second)  # due at 2.5
    assert reading.judged == (1, 2)
    reading.get(2.7, third)
    assert reading.judged == (2, 3)
    reading.get(3.5, EOS_ID, ended=Ended("stop"))  # the end of it is a token, too, due at 3.5
    finished = reading.close(99.0)
    assert (finished.num_on_time_tokens, finished.num_due_tokens, finished.num_output_tokens) == (3, 4, 4)
    assert finished.finish_reason == "stop"


def test_the_bytes_of_one_character_count_when_it_is_whole() -> None:
    reading = Reading()
    parts = ids("🦊")
    assert len(parts) > 1
    reading.get(1.0, *parts[:-1])
    assert reading.judged == (0, 0)
    reading.get(2.4, parts[-1])  # the first is late, the second was due at 2.5
    assert reading.judged == (len(parts) - 1, len(parts))


def test_text_held_back_for_a_stop_string_counts_when_it_goes_out() -> None:
    reading = Reading("xyz")
    x, y = ids("x"), ids("y")
    assert len(x) == len(y) == 1
    assert reading.get(1.0, *x) == Delta(0, "", tuple(x), None, 0)
    assert reading.judged == (0, 0)
    assert reading.get(2.2, *ids("a")) == Delta(0, "xa", tuple(ids("a")), None, 2)  # no stop string after all
    assert reading.judged == (1, 2)
    reading.get(2.9, *x, *y)
    assert reading.judged == (1, 2)
    delta = reading.get(3.4, *ids("z"))
    assert delta == Delta(0, "", tuple(ids("z")), "stop", 5)
    assert reading.judged == (3, 5)  # they were due at 3, 3.5 and 4
    assert reading.office.cancelled == [RequestId("r")]


@given(st.text(max_size=30), st.lists(st.text("abxyz ", min_size=1, max_size=4), max_size=3), st.integers(1, 5))
def test_nothing_counts_before_its_text_is_out_and_at_the_end_all_does(text: str, stops: list[str], burst: int) -> None:
    reading = Reading(*stops, max_tokens=1000)
    token_ids = ids(text)
    out = ""
    for start in range(0, len(token_ids), burst):
        delta = reading.get(0.0, *token_ids[start : start + burst])
        if delta is None:
            break
        out += delta.text
        if delta.finish_reason is None:
            assert out.startswith(byte_level().decode(token_ids[: delta.num_tokens_out]))
            assert delta.num_tokens_out <= reading.choice.num_output_tokens
            if not stops and not out.endswith("\ufffd") and out == byte_level().decode(token_ids[: start + burst]):
                assert delta.num_tokens_out == reading.choice.num_output_tokens
        assert reading.of_model.num_due == delta.num_tokens_out
    reading.get(0.0, ended=Ended("length"))
    assert reading.of_model.num_due == reading.choice.num_output_tokens


def test_a_failure_after_the_first_tokens_makes_late_what_was_due_by_then() -> None:
    reading = Reading()
    reading.get(1.0, *ids("fox"))
    with pytest.raises(RequestError):
        reading.get(4.1, ended=RequestError(ErrorCode.INTERNAL, "lost"))
    finished = reading.close(4.1)  # due: 2, 2.5, 3, 3.5, 4
    assert (finished.finish_reason, finished.num_output_tokens) == ("error", len(ids("fox")))
    assert reading.judged == (len(ids("fox")), 5)


def test_a_client_that_leaves_after_its_first_token_was_due_has_been_failed() -> None:
    reading = Reading(max_tokens=3)
    assert reading.close(60.0).finish_reason == "cancelled"
    assert reading.judged == (0, 3)


def test_a_client_that_leaves_in_time_changes_nothing() -> None:
    reading = Reading()
    reading.get(1.0, *ids("fox"))
    reading.close(1.5)
    assert reading.judged == (len(ids("fox")), len(ids("fox")))


def test_a_refused_request_counts_for_nothing() -> None:
    reading = Reading()
    with pytest.raises(RequestError):
        reading.get(50.0, ended=RequestError(ErrorCode.OVERLOADED, "full"))
    assert reading.close(50.0).finish_reason == "error"
    assert reading.judged == (0, 0)


def test_what_was_read_and_not_written_is_late_once_it_is_overdue() -> None:
    reading = Reading()
    reading.now_s = 1.0
    reading.sequence.append(0, (*ids("fox dog"), EOS_ID), 1.0)
    reading.sequence.ended = Ended("stop")
    assert reading.choice.take()  # and its client is gone
    reading.close(2.6)  # due: 2, 2.5, 3, 3.5
    assert reading.judged == (0, 2)


def test_it_says_which_stop_string_ended_it() -> None:
    token_ids = byte_level().encode("The quick brown fox", add_special_tokens=False).ids
    reading = Reading("dog", "own")
    reading.get(1.0, *token_ids)
    assert (reading.choice.finish_reason, reading.choice.stop_string) == ("stop", "own")
    by_itself = Reading("dog")
    by_itself.get(1.0, *token_ids, EOS_ID, ended=Ended("stop"))
    assert (by_itself.choice.finish_reason, by_itself.choice.stop_string) == ("stop", None)


@given(st.text(max_size=30), st.lists(st.text("abxyz ", min_size=1, max_size=4), max_size=3), st.integers(1, 5))
def test_log_probabilities_come_with_the_text_of_their_tokens_and_all_do(
    text: str, stops: list[str], burst: int
) -> None:
    reading, token_ids = Reading(*stops, max_tokens=1000), ids(text)
    reading.has_logprobs = True
    said = list[int]()
    for start in range(0, len(token_ids), burst):
        delta = reading.get(0.0, *token_ids[start : start + burst])
        if delta is None:
            break
        said += [entry.token_id for entry in delta.logprobs]
        assert len(said) == delta.num_tokens_out
    if last := reading.get(0.0, ended=Ended("length")):
        said += [entry.token_id for entry in last.logprobs]
    assert said == token_ids[: reading.choice.num_output_tokens]
    assert len(reading.sequence.logprobs) == len(reading.sequence.output) - len(said)  # what is taken is not kept


def test_a_prompt_that_is_only_scored_has_no_output() -> None:
    reading = Reading(max_tokens=1, scores_only=True)
    assert reading.get(1.0, *ids("fox")[:1]) is None
    assert reading.get(1.0, ended=Ended("length")) == Delta(0, "", (), "length", 0)
    finished = reading.close(99.0)
    assert (finished.num_output_tokens, finished.finish_reason) == (0, "length")
    assert reading.judged == (0, 0)


def test_a_failure_to_score_a_prompt_is_raised() -> None:
    with pytest.raises(RequestError):
        Reading(max_tokens=1, scores_only=True).get(1.0, ended=RequestError(ErrorCode.INTERNAL, "lost"))


def test_what_ends_it_is_text_where_it_is_wanted() -> None:
    reading = Reading("x d", keeps_stop=True)
    delta = reading.get(1.0, *ids("fox dog"))
    assert delta is not None
    assert (delta.text, delta.finish_reason) == ("fox d", "stop")
    reading = Reading(keeps_stop=True)
    delta = reading.get(1.0, *ids("fox"), EOS_ID, ended=Ended("stop"))
    assert delta is not None
    assert (delta.text, delta.finish_reason) == ("fox", "stop")  # a special token is no text
