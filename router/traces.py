"""A router's part of a traced request: from when it heard of it until a worker got it."""

from shared.messages import Assign
from shared.spans import Span, traced
from shared.tracing import Tracer


def assign_span(tracer: Tracer, assign: Assign, since_s: float, now_s: float) -> Span | None:
    """None: the request is not traced."""
    submit = assign.submit
    context = traced(submit.traceparent)
    if context is None:
        return None
    return tracer.span(
        "assign",
        context.child(),
        context.span_id,
        since_s,
        now_s,
        {"kottos.sequence": submit.request_id, "kottos.attempt": submit.attempt},
        kind="server",
    )
