"""An answer, whole or as a stream of events, whatever API it is for."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from aiohttp import web

from gateway.http import errors, slo_headers
from gateway.http.auth import TENANT
from gateway.http.errors import REQUEST_ID
from gateway.http.events import Event, EventStream
from gateway.http.traces import TRACE
from gateway.output.answer import Parts
from gateway.output.choice import Delta, merged
from gateway.output.generation import Generation
from gateway.request.call import Call
from gateway.tracing.attributes import describe
from shared.config import GatewayConfig
from shared.errors import RequestError


class Form(Protocol):
    """The events of one answer."""

    def opening(self, generation: Generation) -> list[Event]: ...

    def progress(self, delta: Delta, generation: Generation) -> list[Event]:
        """None where a delta has nothing to show yet."""

    def closing(self, generation: Generation) -> list[Event]: ...

    def failure(self, error: RequestError, generation: Generation) -> list[Event]:
        """Instead of what is missing, once the answer has begun."""

    def waiting(self) -> list[Event]:
        """None: a comment keeps the connection alive."""


def with_headers(call: Call, request: web.Request) -> Call:
    """The call with what the headers say. Raises RequestError."""
    params, trace = slo_headers.fill(call.params, request.headers), request.get(TRACE)
    call = replace(call, params=params, tenant=request[TENANT], trace=trace)
    if trace is not None:
        describe(trace, call)
    return call


def parts_of(delta: Delta) -> Parts:
    return Parts(delta.text, delta.reasoning, delta.tool_calls)


async def collect(generation: Generation) -> list[Delta]:
    """All of each choice, in one delta. Its tokens count as written when they are here: whether an answer is streamed
    says nothing about how fast it was made."""
    of_choices: list[list[Delta]] = [[] for _ in generation.choices]
    while not generation.is_done:
        deltas = await generation.next()
        generation.written(deltas)
        for delta in deltas:
            of_choices[delta.index].append(delta)
    return [merged(deltas) for deltas in of_choices]


async def stream(
    request: web.Request,
    generation: Generation,
    form: Form,
    config: GatewayConfig,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """Errors are raised as long as nothing was written: until then they can be a status."""
    stream = EventStream(request, config.write_timeout_s, lambda error: form.failure(error, generation))
    stream.response.headers.update(headers or {})
    try:
        while not generation.is_done:
            deltas = await generation.next(config.keepalive_s)
            events = [] if stream.has_begun else form.opening(generation)
            for delta in deltas:
                events += form.progress(delta, generation)
            if not deltas:
                events += form.waiting()
            if events:
                await stream.send_events(events)
                generation.written(deltas)
            elif not deltas:
                await stream.keep_alive(generation.status())
        last = form.closing(generation)
    except RequestError as error:
        if not stream.has_begun:
            raise
        last = form.failure(error, generation)
    except ConnectionError:
        raise  # the client left
    except Exception as error:
        if not stream.has_begun:
            raise
        errors.log_failure(request[REQUEST_ID], error)
        last = form.failure(errors.INTERNAL, generation)
    await stream.send_events(last)
    return stream.response
