"""A worker's notes of traced sequences, and the spans they become."""

from typing import NamedTuple, cast

from gpu_worker.loader import Arrival
from gpu_worker.sequence import Sequence
from gpu_worker.sequence_trace import MAX_TURNS
from gpu_worker.switches import Switch
from gpu_worker.traces import Traces
from shared.ids import ModelName, OwnerId, RequestId
from shared.messages import Ended, Sampling, Submit
from shared.spans import Sampler, Span, SpanContext
from shared.tracing import Tracer

MODEL, OTHER = ModelName("tiny"), ModelName("other")
OWNERS = SpanContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")


class Weights(NamedTuple):
    num_bytes: int

    def numel(self) -> int:
        return self.num_bytes


class Setting:
    """Sequences on a device whose turns a test says."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.traces = Traces(Tracer(self.spans.extend, Sampler(1.0), offset_s=1000.0), lambda: 99.0)

    def sequence(self, traceparent: str = OWNERS.header(), num_prompt_tokens: int = 4) -> Sequence:
        """Assigned at 10."""
        submit = Submit(
            RequestId("r"), 1, OwnerId("o"), MODEL, tuple(range(num_prompt_tokens)), Sampling(max_tokens=9, seed=0),
            traceparent=traceparent,
        )  # fmt: skip
        sequence = Sequence(submit, 10.0)
        sequence.trace = self.traces.begin(submit)
        return sequence

    def switch(self, model: ModelName = MODEL, waited_s: float = 0.25) -> None:
        arrival = Arrival(cast("object", Weights(1000)), "copied")  # type: ignore[arg-type]
        self.traces.switched(Switch(model, None, arrival, waited_s))

    def step(self, sequence: Sequence, num_tokens: int, began_at_s: float, ended_at_s: float) -> None:
        if sequence.first_step_at_s is None:
            sequence.first_step_at_s = began_at_s
        self.traces.stepped([(sequence, num_tokens)], began_at_s, ended_at_s)
        sequence.num_computed_tokens += num_tokens
        if sequence.num_computed_tokens == sequence.num_tokens:
            sequence.append(7)
            if sequence.first_token_at_s is None:
                sequence.first_token_at_s = ended_at_s

    def turns(self) -> list[Span]:
        return [span for span in self.spans if span.name == "turn"]


def seconds(span: Span) -> tuple[float, float]:
    return (span.began_at_ns / 1e9 - 1000, span.ended_at_ns / 1e9 - 1000)


def test_phases_follow_one_another_and_turns_are_between_switches() -> None:
    setting = Setting()
    sequence = setting.sequence()
    setting.switch()
    setting.step(sequence, 3, 11.0, 12.0)
    setting.step(sequence, 1, 12.0, 13.0)  # the end of its prompt
    setting.step(sequence, 1, 13.0, 14.0)
    setting.switch(OTHER)
    setting.traces.stepped([], 14.0, 15.0)  # the other model's step
    setting.switch(waited_s=0.5)
    setting.step(sequence, 1, 15.0, 16.0)
    setting.traces.ended(sequence, Ended("length"), 16.5)
    by_name = {span.name: span for span in setting.spans}
    assert {name: seconds(span) for name, span in by_name.items() if name != "turn"} == {
        "run": (10.0, 16.5),
        "wait": (10.0, 11.0),
        "prefill": (11.0, 13.0),
        "decode": (13.0, 16.5),
    }
    run = by_name["run"]
    assert (run.context.trace_id, run.parent_span_id, run.error) == (*OWNERS, "")
    assert (run.attributes["kottos.attempt"], run.attributes["kottos.end"]) == (1, "length")
    assert {span.parent_span_id for span in setting.spans if span is not run} == {run.context.span_id}
    first, second = setting.turns()
    assert (seconds(first), seconds(second)) == ((11.0, 14.0), (15.0, 16.0))
    keys = ("kottos.steps", "kottos.prefill_tokens", "kottos.decode_tokens", "kottos.switch.waited_s")
    assert [first.attributes[key] for key in keys] == [3, 4, 1, 0.25]
    assert [second.attributes[key] for key in keys] == [1, 0, 1, 0.5]
    assert (first.attributes["kottos.switch.kind"], first.attributes["kottos.switch.copied_bytes"]) == ("copied", 1000)
    assert not setting.traces.is_busy


def test_a_switch_belongs_to_the_step_behind_it_alone() -> None:
    setting = Setting()
    sequence, late = setting.sequence(), setting.sequence()
    setting.switch()
    setting.step(sequence, 4, 11.0, 12.0)
    setting.step(late, 4, 12.0, 13.0)  # in the same turn, and did not wait for the copy
    setting.switch(OTHER)  # whose step fails
    setting.step(late, 1, 14.0, 15.0)
    for each in (sequence, late):
        setting.traces.ended(each, Ended("stop"), 16.0)
    assert [span.attributes.get("kottos.switch.kind") for span in setting.turns()] == ["copied", None, None]


def test_many_turns_become_one_that_stands_for_the_rest() -> None:
    setting = Setting()
    sequence = setting.sequence(num_prompt_tokens=1)
    num_turns = MAX_TURNS + 10
    for turn in range(num_turns):
        setting.switch()
        setting.step(sequence, 1, 20.0 + turn, 20.5 + turn)
        setting.step(sequence, 1, 20.5 + turn, 21.0 + turn)
    setting.traces.ended(sequence, Ended("length"), 1000.0)
    turns = setting.turns()
    assert len(turns) == MAX_TURNS
    assert sum(int(str(span.attributes["kottos.turns"])) for span in turns) == num_turns
    assert sum(int(str(span.attributes["kottos.steps"])) for span in turns) == 2 * num_turns
    assert seconds(turns[-1]) == (20.0 + MAX_TURNS - 1, 20.0 + num_turns)


def test_an_end_before_the_first_step_leaves_a_wait() -> None:
    setting = Setting()
    setting.traces.ended(setting.sequence(), Ended("cancelled"), 12.0)
    assert [(span.name, seconds(span)) for span in setting.spans] == [("run", (10.0, 12.0)), ("wait", (10.0, 12.0))]


def test_who_is_dropped_has_its_spans() -> None:
    setting = Setting()
    setting.traces.dropped(setting.sequence(), "owner lost")
    assert (setting.spans[0].error, seconds(setting.spans[0])) == ("owner lost", (10.0, 99.0))
    assert not setting.traces.is_busy


def test_nothing_is_noted_of_who_is_not_traced() -> None:
    setting = Setting()
    untraced = setting.sequence(traceparent="")
    unsampled = setting.sequence(traceparent=OWNERS.header()[:-1] + "0")
    assert untraced.trace is None and unsampled.trace is None
    assert not setting.traces.is_busy
    assert Traces().begin(Submit(
        RequestId("r"), 0, OwnerId("o"), MODEL, (1,), Sampling(max_tokens=1, seed=0), traceparent=OWNERS.header()
    )) is None  # fmt: skip
