"""Spans as plain data: what a process measured of a request, where that belongs, and who is traced. No I/O.

A span's place travels as W3C Trace Context writes it (w3.org/TR/trace-context), in fields of messages. Who is not
traced has an empty field there, so nobody but the process where a request arrives decides anything.
"""

import re
import secrets
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

import msgspec

from shared.errors import ConfigError

Value = str | bool | int | float | list[str]
Kind = Literal["internal", "server", "client"]

_TRACEPARENT: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<rest>-.*)?",
    re.ASCII,
)
_INVALID_VERSION: Final = "ff"
_FIRST_VERSION: Final = "00"
_IS_SAMPLED: Final = 1  # of the flags
_SAMPLED_BITS: Final = 64  # of a trace id, the last ones, decide, as OpenTelemetry's TraceIdRatioBased does
_SAMPLERS: Final = {  # OTEL_TRACES_SAMPLER -> whether it asks the parent, its ratio; None: OTEL_TRACES_SAMPLER_ARG's
    "always_on": (False, 1.0),
    "always_off": (False, 0.0),
    "traceidratio": (False, None),
    "parentbased_always_on": (True, 1.0),
    "parentbased_always_off": (True, 0.0),
    "parentbased_traceidratio": (True, None),
}


class SpanContext(NamedTuple):
    """Which span it is. Lower-case hexadecimal digits, never all 0."""

    trace_id: str  # 32
    span_id: str  # 16

    def header(self) -> str:
        """As `traceparent` says it, of a span that is recorded."""
        return f"{_FIRST_VERSION}-{self.trace_id}-{self.span_id}-01"

    def child(self) -> "SpanContext":
        """A new span of the same trace."""
        return SpanContext(self.trace_id, new_span_id())


class Parent(NamedTuple):
    """Whoever called, by its own account."""

    context: SpanContext
    is_sampled: bool


class Span(msgspec.Struct, frozen=True, array_like=True):
    name: str
    context: SpanContext
    parent_span_id: str  # empty: it has none
    kind: Kind
    began_at_ns: int  # of the wall clock, since 1970
    ended_at_ns: int
    attributes: dict[str, Value] = {}
    links: tuple[SpanContext, ...] = ()
    error: str = ""  # what kind of; empty: none


def new_span_id() -> str:
    return secrets.token_hex(8)


def parent_of(traceparent: str) -> Parent | None:
    """None where it is empty or malformed: then a trace begins here."""
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None or found["version"] == _INVALID_VERSION:
        return None
    if found["version"] == _FIRST_VERSION and found["rest"]:  # later versions may add something
        return None
    if not int(found["trace"], 16) or not int(found["span"], 16):
        return None
    return Parent(SpanContext(found["trace"], found["span"]), bool(int(found["flags"], 16) & _IS_SAMPLED))


def traced(traceparent: str) -> SpanContext | None:
    """The span that a message names; None: its request is not traced."""
    parent = parent_of(traceparent) if traceparent else None
    return parent.context if parent is not None and parent.is_sampled else None


class Root(NamedTuple):
    """The first span of a request here."""

    context: SpanContext
    parent_span_id: str  # the caller's; empty: it has none


class Sampler(NamedTuple):
    """Who is traced of those that arrive."""

    ratio: float  # of the traces that begin here
    asks_parent: bool = True  # who comes with a trace of its own is traced exactly where its caller is

    def root(self, traceparent: str) -> Root | None:
        """None: it is not traced."""
        parent = parent_of(traceparent) if traceparent else None
        trace_id = secrets.token_hex(16) if parent is None else parent.context.trace_id
        is_sampled = parent.is_sampled if parent is not None and self.asks_parent else self._takes(trace_id)
        if not is_sampled:
            return None
        return Root(SpanContext(trace_id, new_span_id()), "" if parent is None else parent.context.span_id)

    def _takes(self, trace_id: str) -> bool:
        return int(trace_id[-_SAMPLED_BITS // 4 :], 16) < round(self.ratio * (1 << _SAMPLED_BITS))


def sampler_of(ratio: float, environ: Mapping[str, str]) -> Sampler:
    """`ratio` where OTEL_TRACES_SAMPLER does not say another one. Raises ConfigError."""
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower()
    if not name:
        return Sampler(ratio)
    if name not in _SAMPLERS:
        raise ConfigError(f"OTEL_TRACES_SAMPLER {name!r}: expected {' or '.join(_SAMPLERS)}")
    asks_parent, of_sampler = _SAMPLERS[name]
    return Sampler(_ratio(environ) if of_sampler is None else of_sampler, asks_parent)


def _ratio(environ: Mapping[str, str]) -> float:
    text = environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip() or "1"
    try:
        ratio = float(text)
    except ValueError:
        ratio = -1.0
    if not 0.0 <= ratio <= 1.0:
        raise ConfigError(f"OTEL_TRACES_SAMPLER_ARG {text!r}: expected a number from 0 to 1")
    return ratio
