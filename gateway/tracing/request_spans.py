"""The spans of a request, once it is over.

root: from the request's arrival to its last byte
  render chat, tokenize, compile grammar
  sequence: an attempt to run one; a later attempt is linked to the one before
    queue: until a worker was found. What the router and the worker did comes from there, below this span
  write: tokens to text and text to the client, from the first token to the last byte
"""

from gateway.tracing.attributes import output_messages
from gateway.tracing.request_trace import RequestTrace, Writing
from gateway.tracing.sequence_trace import Attempt, SequenceTrace
from shared.spans import Span, SpanContext, Value
from shared.tracing import Tracer


def request_spans(tracer: Tracer, trace: RequestTrace) -> list[Span]:
    """As of now, when it is over."""
    root, now_s = trace.root.context, trace.clock()
    spans = [
        tracer.span(stage.name, root.child(), root.span_id, stage.began_at_s, stage.ended_at_s)
        for stage in trace.stages
    ]
    for sequence in trace.sequences:
        spans += _sequence_spans(tracer, root, sequence, now_s)
    if trace.writing is not None:
        spans.append(_writing_span(tracer, root, trace.writing))
    error = trace.error or next((sequence.error for sequence in trace.sequences if sequence.error), "")
    attributes = trace.attributes | _outcome(trace)
    parent, began_at_s = trace.root.parent_span_id, trace.began_at_s
    spans.append(tracer.span(trace.name, root, parent, began_at_s, now_s, attributes, kind="server", error=error))
    return spans


def _sequence_spans(tracer: Tracer, root: SpanContext, sequence: SequenceTrace, now_s: float) -> list[Span]:
    spans: list[Span] = []
    for number, attempt in enumerate(sequence.attempts):
        is_last = number == len(sequence.attempts) - 1
        links = (sequence.attempts[number - 1].context,) if number else ()
        ended_at_s = attempt.ended_at_s
        if ended_at_s is None:
            ended_at_s = (sequence.finished_at_s or now_s) if is_last else sequence.attempts[number + 1].began_at_s
        attributes = {"kottos.attempt": number, **_attempt_attributes(attempt)}
        if is_last:
            attributes |= _sequence_attributes(sequence)
        error = sequence.error if is_last else "lost" if attempt.is_lost else ""
        spans.append(
            tracer.span(
                "sequence", attempt.context, root.span_id, attempt.began_at_s, ended_at_s, attributes,
                kind="client", links=links, error=error,
            )
        )  # fmt: skip
        if attempt.assigned_at_s is not None:
            context = attempt.context
            spans.append(
                tracer.span("queue", context.child(), context.span_id, attempt.began_at_s, attempt.assigned_at_s)
            )
    return spans


def _attempt_attributes(attempt: Attempt) -> dict[str, Value]:
    return {} if attempt.worker is None else {"kottos.worker": attempt.worker}


def _sequence_attributes(sequence: SequenceTrace) -> dict[str, Value]:
    finished = sequence.finished
    if finished is None:
        return {}
    return {
        "kottos.sequence": finished.request_id,
        "gen_ai.request.model": finished.model,
        "gen_ai.response.finish_reasons": [finished.finish_reason],
        "gen_ai.usage.input_tokens": finished.num_prompt_tokens,
        "gen_ai.usage.cache_read.input_tokens": finished.num_cached_tokens,
        "gen_ai.usage.output_tokens": finished.num_output_tokens,
        **({} if finished.ttft_s is None else {"kottos.time_to_first_token_s": finished.ttft_s}),
    }


def _writing_span(tracer: Tracer, root: SpanContext, writing: Writing) -> Span:
    attributes: dict[str, Value] = {
        "kottos.writes": writing.num_writes,
        "kottos.detokenizing_s": writing.detokenizing_s,
    }
    return tracer.span("write", root.child(), root.span_id, writing.began_at_s, writing.ended_at_s, attributes)


def _outcome(trace: RequestTrace) -> dict[str, Value]:
    """Of all its sequences. Each prompt counts once, whatever number of choices it has."""
    all_finished = [sequence.finished for sequence in trace.sequences if sequence.finished is not None]
    if not all_finished:
        return {}
    reasons = [str(finished.finish_reason) for finished in all_finished]
    prompts = all_finished[:: trace.num_choices]
    outcome: dict[str, Value] = {
        "gen_ai.response.finish_reasons": reasons,
        "gen_ai.usage.input_tokens": sum(finished.num_prompt_tokens for finished in prompts),
        "gen_ai.usage.cache_read.input_tokens": sum(finished.num_cached_tokens for finished in prompts),
        "gen_ai.usage.output_tokens": sum(finished.num_output_tokens for finished in all_finished),
    }
    if trace.keeps_content:
        outcome["gen_ai.output.messages"] = output_messages(trace, reasons)
    return outcome
