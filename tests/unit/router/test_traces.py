from router.traces import assign_span
from shared.ids import Incarnation, ModelName, OwnerId, RequestId
from shared.messages import Assign, Sampling, Submit
from shared.spans import Sampler, SpanContext
from shared.tracing import Tracer

OWNERS = SpanContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
TRACER = Tracer(lambda spans: None, Sampler(1.0), offset_s=1000.0)


def assign(traceparent: str) -> Assign:
    sampling = Sampling(max_tokens=1, seed=0)
    submit = Submit(RequestId("r"), 2, OwnerId("o"), ModelName("m"), (1,), sampling, traceparent=traceparent)
    return Assign(submit, Incarnation("router-0"), 1)


def test_an_assignment_is_below_the_owners_span() -> None:
    span = assign_span(TRACER, assign(OWNERS.header()), 3.0, 5.0)
    assert span is not None
    assert (span.name, span.context.trace_id, span.parent_span_id) == ("assign", *OWNERS)
    assert (span.began_at_ns, span.ended_at_ns) == (1003 * 10**9, 1005 * 10**9)
    assert span.attributes == {"kottos.sequence": "r", "kottos.attempt": 2}


def test_who_is_not_traced_has_none() -> None:
    assert assign_span(TRACER, assign(""), 3.0, 5.0) is None
