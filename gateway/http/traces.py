"""Traces of requests that generate: begun by their headers, ended with their last byte.

`traceparent` says whose part a request is (W3C Trace Context); the answer's `traceresponse` says which span it became,
where it is recorded (the draft of its level 2).
"""

from collections.abc import Callable
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.http.errors import REQUEST_ID
from gateway.tracing.request_spans import request_spans
from gateway.tracing.request_trace import CLIENT_LEFT, RequestTrace
from shared.spans import Root
from shared.tracing import Tracer

TRACE: Final = web.RequestKey("trace", RequestTrace)
TRACED: Final = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"})
_PARENT_HEADER: Final = "traceparent"
_ANSWER_HEADER: Final = "traceresponse"
_SERVER_FAILED: Final = 500


def tracing(tracer: Tracer, clock: Callable[[], float]) -> Middleware:
    """Outside all others: what they take and refuse is in it."""

    @web.middleware
    async def trace(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method != "POST" or request.path not in TRACED:
            return await handler(request)
        root = tracer.root(request.headers.get(_PARENT_HEADER, ""))
        if root is None:
            return await handler(request)
        noted = request[TRACE] = _begin(request, root, clock, keeps_content=tracer.keeps_content)
        noted.error = CLIENT_LEFT  # unless it gets an answer
        try:
            response = await handler(request)
            noted.attributes["http.response.status_code"] = response.status
            noted.error = str(response.status) if response.status >= _SERVER_FAILED else ""
            return response
        finally:
            noted.attributes["kottos.request_id"] = request.get(REQUEST_ID, "")
            tracer.put(request_spans(tracer, noted))

    return trace


def _begin(request: web.Request, root: Root, clock: Callable[[], float], *, keeps_content: bool) -> RequestTrace:
    return RequestTrace(
        root,
        f"{request.method} {request.path}",
        clock,
        clock(),
        {
            "http.request.method": request.method,
            "http.route": request.path,
            "url.path": request.path,
            "url.scheme": request.scheme,
        },
        keeps_content,
    )


async def trace_header(request: web.Request, response: web.StreamResponse) -> None:
    """For `Application.on_response_prepare`."""
    noted = request.get(TRACE)
    if noted is not None:
        response.headers[_ANSWER_HEADER] = noted.root.context.header()
