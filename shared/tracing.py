"""A process's way of getting its spans out: off unless a collector is named.

Whoever measures keeps plain numbers, makes spans of them when a request is over, and puts them here. A child process
sends them on (`shared/trace_exporter.py`), so this one pays for msgpack and a write, five times a second at most.

Clocks: instants are of the monotonic clock until they become spans, by one offset per process, taken at its start. So
spans of one process are exact among themselves. Between processes of a machine they agree unless its clock was set
between their starts, between machines as far as their clocks do (NTP): there a child may seem to begin before its
parent. Nothing is corrected for it.
"""

import asyncio
import logging
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

import shared
from shared.child import dies_with_parent
from shared.config import TelemetryConfig
from shared.spans import Kind, Root, Sampler, Span, SpanContext, Value, sampler_of

_log = logging.getLogger(__name__)

_SOURCE_FOLDER: Final = str(Path(shared.__file__).parents[1])
_TRACES_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_ENDPOINTS: Final = (_TRACES_ENDPOINT, "OTEL_EXPORTER_OTLP_ENDPOINT")
_FLUSH_S: Final = 0.2
_HEADER_BYTES: Final = 4  # shared/trace_exporter.py
MAX_UNSENT_SPANS: Final = 8192
MAX_UNREAD_BYTES: Final = 4 << 20  # by the child; meanwhile spans wait here
_END_GRACE_S: Final = 2.0  # for the child to send what it has

_encoder: Final = msgspec.msgpack.Encoder()


class Tracer:
    """Of one process. `put` takes what it made."""

    def __init__(
        self,
        put: Callable[[Iterable[Span]], None],
        sampler: Sampler,
        *,
        keeps_content: bool = False,
        offset_s: float | None = None,
    ) -> None:
        """offset_s: from the monotonic clock to the wall's; by default as it is now."""
        self.put = put
        self.keeps_content = keeps_content  # prompts and outputs may be in spans
        self._sampler = sampler
        self._offset_s = time.time() - time.monotonic() if offset_s is None else offset_s

    def root(self, traceparent: str) -> Root | None:
        """Of a request that came with this header; None: it is not traced."""
        return self._sampler.root(traceparent)

    def span(
        self,
        name: str,
        context: SpanContext,
        parent_span_id: str,
        began_at_s: float,
        ended_at_s: float,
        attributes: dict[str, Value] | None = None,
        *,
        kind: Kind = "internal",
        links: tuple[SpanContext, ...] = (),
        error: str = "",
    ) -> Span:
        began_at_ns, ended_at_ns = self._wall_ns(began_at_s), self._wall_ns(ended_at_s)
        return Span(name, context, parent_span_id, kind, began_at_ns, ended_at_ns, attributes or {}, links, error)

    def _wall_ns(self, at_s: float) -> int:
        return round((at_s + self._offset_s) * 1e9)


@asynccontextmanager
async def open_tracer(
    config: TelemetryConfig, service: str, instance: str, environ: Mapping[str, str] = os.environ
) -> AsyncIterator[Tracer | None]:
    """None: nothing is traced. Raises ConfigError."""
    if not is_on(config, environ):
        yield None
        return
    sampler = sampler_of(config.trace_sample_ratio, environ)
    command = [sys.executable, "-m", "shared.trace_exporter", service, instance, config.log_format]
    async with _exporting(command, _child_environ(config, environ)) as outbox:
        yield Tracer(outbox.put, sampler, keeps_content=config.trace_content)


def is_on(config: TelemetryConfig, environ: Mapping[str, str]) -> bool:
    """A collector is named, by us or by OpenTelemetry's variables, which can also switch it all off."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    return bool(config.otlp_endpoint or any(environ.get(name) for name in _ENDPOINTS))


def _child_environ(config: TelemetryConfig, environ: Mapping[str, str]) -> dict[str, str]:
    """Without our credentials. The endpoint may hold some: it is in no command line. An empty variable is none."""
    child = {name: value for name, value in environ.items() if value and not name.startswith("KOTTOS_")}
    child["PYTHONPATH"] = os.pathsep.join(filter(None, [_SOURCE_FOLDER, environ.get("PYTHONPATH", "")]))
    if config.otlp_endpoint:
        child[_TRACES_ENDPOINT] = config.otlp_endpoint.rstrip("/") + "/v1/traces"
    return child


@asynccontextmanager
async def _exporting(command: list[str], environ: Mapping[str, str]) -> AsyncIterator["_Outbox"]:
    child = await asyncio.create_subprocess_exec(
        *command,
        stdin=PIPE,
        start_new_session=True,  # a terminal's Ctrl-C ends us, and that ends it
        preexec_fn=dies_with_parent(),
        env=environ,
    )
    outbox = _Outbox(child)
    try:
        yield outbox
    finally:
        outbox.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_END_GRACE_S):
                await child.wait()
        if child.returncode is None:
            child.kill()
            await child.wait()


class _Outbox:
    """Spans on their way to the child. What is too much, or comes after its end, is dropped."""

    def __init__(self, child: Process) -> None:
        assert child.stdin is not None  # piped
        self._child = child
        self._pipe = child.stdin
        self._unsent: list[Span] = []
        self._num_dropped = 0
        self._timer: asyncio.TimerHandle | None = None

    def put(self, spans: Iterable[Span]) -> None:
        self._unsent += spans
        if (num_more := len(self._unsent) - MAX_UNSENT_SPANS) > 0:
            del self._unsent[MAX_UNSENT_SPANS:]
            self._drop(num_more)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_S, self._flush)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._flush()
        self._pipe.close()

    def _flush(self) -> None:
        self._timer = None
        if not self._unsent:
            return
        if self._child.returncode is not None or self._pipe.is_closing():
            self._drop(len(self._unsent))
            self._unsent.clear()
        elif self._pipe.transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_S, self._flush)
        else:
            body = _encoder.encode(self._unsent)
            self._unsent.clear()
            self._pipe.write(len(body).to_bytes(_HEADER_BYTES, "big") + body)

    def _drop(self, num_spans: int) -> None:
        if not self._num_dropped:
            why = "the process that sends them is behind" if self._child.returncode is None else "it has ended"
            _log.warning("spans of traces are dropped: %s", why)
        self._num_dropped += num_spans
