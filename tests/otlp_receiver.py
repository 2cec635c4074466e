"""A collector of traces for tests: takes OTLP over HTTP and decodes it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue


class Received(NamedTuple):
    """A span as a collector has it."""

    service: str
    instance: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str  # empty: none
    began_at_s: float
    ended_at_s: float
    attributes: dict[str, object]
    links: tuple[str, ...]  # span ids
    error: str

    @property
    def took_s(self) -> float:
        return self.ended_at_s - self.began_at_s


class Receiver:
    def __init__(self) -> None:
        self.url = ""
        self._spans: list[Received] = []
        self._came = threading.Condition()

    def take(self, body: bytes) -> None:
        with self._came:
            self._spans += _received(ExportTraceServiceRequest.FromString(body))
            self._came.notify_all()

    def wait_for(self, is_enough: Callable[[list[Received]], bool], timeout_s: float = 20.0) -> list[Received]:
        """All so far, once that is enough. Raises TimeoutError."""
        with self._came:
            if not self._came.wait_for(lambda: is_enough(self._spans), timeout_s):
                raise TimeoutError(f"only {[(span.service, span.name) for span in self._spans]} came")
            return list(self._spans)


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            is_known = self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf"
            if is_known:
                receiver.take(body)
            self.send_response(200 if is_known else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _received(request: ExportTraceServiceRequest) -> Iterator[Received]:
    for resource_spans in request.resource_spans:
        resource = _values(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield Received(
                    str(resource["service.name"]),
                    str(resource["service.instance.id"]),
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.start_time_unix_nano / 1e9,
                    span.end_time_unix_nano / 1e9,
                    _values(span.attributes),
                    tuple(link.span_id.hex() for link in span.links),
                    span.status.message,
                )


def _values(attributes: list[KeyValue]) -> dict[str, object]:
    return {each.key: _value(each.value) for each in attributes}


def _value(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind) if kind else None
