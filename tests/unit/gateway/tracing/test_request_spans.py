"""A request's spans, made of what was noted."""

import json

from gateway.request.call import Call
from gateway.request.prompts import Chat, Text
from gateway.tracing.attributes import describe
from gateway.tracing.request_spans import request_spans
from gateway.tracing.request_trace import MAX_CONTENT_CHARS, RequestTrace, stage
from shared.ids import ModelName, OwnerId, RequestId, WorkerId
from shared.messages import ChatMessage, FinishReason, GenerationParams, RequestFinished
from shared.spans import Root, Sampler, Span, SpanContext
from shared.tracing import Tracer

MODEL = ModelName("tiny")
ROOT = Root(SpanContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"), "00000000000000ff")
SECRET = "the canary of the coal mine"


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def begin(clock: Clock, *, keeps_content: bool = False) -> RequestTrace:
    return RequestTrace(ROOT, "POST /v1/completions", clock, clock(), {"http.route": "/v1/completions"}, keeps_content)


def finished(index: int = 0, reason: FinishReason = "length", num_output_tokens: int = 5) -> RequestFinished:
    return RequestFinished(
        RequestId(f"call-{index}"), MODEL, reason, 7, num_output_tokens, 0.5, 2.0, OwnerId("gateway"),
        num_cached_tokens=3,
    )  # fmt: skip


def spans_of(trace: RequestTrace) -> dict[str, Span]:
    """By name; the last one of a name."""
    return {span.name: span for span in all_spans(trace)}


def all_spans(trace: RequestTrace) -> list[Span]:
    return request_spans(Tracer(lambda spans: None, Sampler(1.0), offset_s=1000.0), trace)


def seconds(span: Span) -> tuple[float, float]:
    return (span.began_at_ns / 1e9 - 1000, span.ended_at_ns / 1e9 - 1000)


def test_each_part_has_its_place_and_its_times() -> None:
    clock = Clock()
    trace = begin(clock)
    clock.now_s = 101.0
    with stage(trace, "tokenize"):
        clock.now_s = 102.0
    sequence = trace.begin_sequence()
    clock.now_s = 103.0
    sequence.assigned(WorkerId("worker-0"), clock())
    sequence.assigned(WorkerId("worker-0"), 103.5)  # a router says it again
    clock.now_s = 104.0
    trace.detokenized(103.75, [(0, "once")])
    clock.now_s = 105.0
    trace.written()
    sequence.attempt_ended(105.5)
    sequence.finish(finished(), 106.0, "")
    clock.now_s = 107.0
    spans = spans_of(trace)
    root = spans["POST /v1/completions"]
    assert (root.context, root.parent_span_id, root.kind) == (*ROOT, "server")
    assert {name: seconds(span) for name, span in spans.items()} == {
        "POST /v1/completions": (100.0, 107.0),
        "tokenize": (101.0, 102.0),
        "sequence": (102.0, 105.5),
        "queue": (102.0, 103.0),
        "write": (103.75, 105.0),
    }
    for name in ("tokenize", "sequence", "write"):
        assert spans[name].parent_span_id == root.context.span_id
    assert spans["queue"].parent_span_id == spans["sequence"].context.span_id
    assert {span.context.trace_id for span in spans.values()} == {root.context.trace_id}
    assert len({span.context.span_id for span in spans.values()}) == len(spans)
    assert spans["sequence"].context.header() == sequence.traceparent
    assert spans["sequence"].attributes["kottos.worker"] == "worker-0"
    assert spans["write"].attributes == {"kottos.writes": 1, "kottos.detokenizing_s": 0.25}


def test_a_later_attempt_is_linked_to_the_one_before() -> None:
    clock = Clock()
    trace = begin(clock)
    sequence = trace.begin_sequence()
    sequence.assigned(WorkerId("worker-0"), 101.0)
    first = sequence.traceparent
    sequence.next_attempt(110.0, num_crashes=1)
    assert sequence.traceparent != first
    sequence.assigned(WorkerId("worker-1"), 111.0)
    sequence.finish(finished(), 115.0, "")
    one, other = [span for span in all_spans(trace) if span.name == "sequence"]
    assert (one.context.header(), one.links, one.error, seconds(one)) == (first, (), "lost", (100.0, 110.0))
    assert (other.links, other.error, seconds(other)) == ((one.context,), "", (110.0, 115.0))
    assert [span.attributes["kottos.attempt"] for span in (one, other)] == [0, 1]
    assert [span.attributes["kottos.worker"] for span in (one, other)] == ["worker-0", "worker-1"]


def test_an_attempt_that_was_handed_over_did_not_fail() -> None:
    trace = begin(Clock())
    sequence = trace.begin_sequence()
    for num_crashes in (0, 1, 1):
        sequence.next_attempt(101.0, num_crashes)
    errors = [span.error for span in all_spans(trace) if span.name == "sequence"]
    assert errors == ["", "lost", "", ""]


def test_tokens_are_counted_and_each_prompt_once() -> None:
    trace = begin(Clock())
    call = Call("call", MODEL, (Text("a"), Text("b")), GenerationParams(n=2, temperature=0.5, stop=[SECRET]), 100.0)
    describe(trace, call)
    for index in range(4):
        reason: FinishReason = "stop" if index else "length"
        trace.begin_sequence().finish(finished(index, reason), 101.0, "")
    attributes = spans_of(trace)["POST /v1/completions"].attributes
    assert attributes["gen_ai.operation.name"] == "text_completion"
    assert attributes["gen_ai.request.model"] == attributes["gen_ai.response.model"] == "tiny"
    assert (attributes["gen_ai.request.temperature"], attributes["gen_ai.request.choice.count"]) == (0.5, 2)
    assert "gen_ai.request.top_p" not in attributes  # nobody asked for one
    assert (attributes["gen_ai.usage.input_tokens"], attributes["gen_ai.usage.output_tokens"]) == (14, 20)
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == 6
    assert attributes["gen_ai.response.finish_reasons"] == ["length", "stop", "stop", "stop"]
    assert SECRET not in str(attributes)


def test_content_is_kept_only_where_it_is_asked_for_and_bounded() -> None:
    call = Call("call", MODEL, (Chat((ChatMessage("user", SECRET),)),), GenerationParams(), 100.0)
    for keeps_content in (False, True):
        trace = begin(Clock(), keeps_content=keeps_content)
        describe(trace, call)
        trace.detokenized(100.0, [(0, f"{SECRET}, ")])
        trace.detokenized(100.0, [(0, "x" * MAX_CONTENT_CHARS)])
        trace.begin_sequence().finish(finished(), 101.0, "")
        spans = all_spans(trace)
        assert any(SECRET in str(span) for span in spans) == keeps_content
    attributes = spans[-1].attributes
    [asked] = json.loads(str(attributes["gen_ai.input.messages"]))
    assert asked == {"role": "user", "parts": [{"type": "text", "content": SECRET}]}
    [said] = json.loads(str(attributes["gen_ai.output.messages"]))
    [part] = said["parts"]
    assert (said["role"], said["finish_reason"], part["type"]) == ("assistant", "length", "text")
    assert (part["content"].startswith(SECRET), len(part["content"])) == (True, MAX_CONTENT_CHARS)


def test_why_it_failed_is_at_the_top() -> None:
    trace = begin(Clock())
    trace.begin_sequence().finish(finished(reason="error"), 101.0, "internal")
    assert {name: span.error for name, span in spans_of(trace).items()} == {
        "sequence": "internal",
        "POST /v1/completions": "internal",
    }
    trace.error = "client_left"
    assert spans_of(trace)["POST /v1/completions"].error == "client_left"


def test_what_never_got_to_a_worker_ends_with_its_request() -> None:
    clock = Clock()
    trace = begin(clock)
    trace.begin_sequence()
    clock.now_s = 103.0
    spans = spans_of(trace)
    assert set(spans) == {"sequence", "POST /v1/completions"}
    assert seconds(spans["sequence"]) == (100.0, 103.0)
