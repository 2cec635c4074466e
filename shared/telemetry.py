"""What a process measures, and where it is read: Prometheus' text format. The only place with prometheus_client.

Counters and histograms are written where things happen; what is state already (memory, queues) is read when somebody
asks. Scrapes are rendered beside the event loop, but state is read in the loop's thread, which owns it.
"""

import asyncio
import importlib.metadata
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Final, Literal, NamedTuple, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
    make_wsgi_app,
    start_http_server,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shared.aliases import Alias, with_aliases
from shared.config import TelemetryConfig
from shared.errors import ConfigError
from shared.health import with_health
from shared.machine import memory_limit_bytes

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
disable_created_metrics()  # a further row for each, which nobody asks for
LONG_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
SHORT_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
OTHER: Final = "other"
_MAX_LABEL_VALUES: Final = 256
_READ_TIMEOUT_S: Final = 5.0  # for the loop to read its state; then the scrape fails

Kind = Literal["counter", "gauge", "histogram"]
Value = tuple[tuple[str, ...], float]  # label values, number
Values = Iterable[Value]
_Family = CounterMetricFamily | GaugeMetricFamily
_State = tuple[Callable[[], _Family], Callable[[], Values]]
_T = TypeVar("_T")


class Described(NamedTuple):
    """A metric as its page lists it."""

    name: str  # as a scrape has it; a histogram's without _bucket, _sum, _count
    kind: Kind
    labels: tuple[str, ...]
    text: str


class Label:
    """Values of one label, bounded: what comes after the first `max_values` is "other"."""

    def __init__(self, max_values: int = _MAX_LABEL_VALUES) -> None:
        self._max_values = max_values
        self._known: set[str] = set()

    def __call__(self, value: str) -> str:
        if value in self._known:
            return value
        if len(self._known) >= self._max_values:
            return OTHER
        self._known.add(value)
        return value

    @property
    def known(self) -> frozenset[str]:
        return frozenset(self._known)

    def forget(self, value: str) -> bool:
        """Makes room for another; whether it was known."""
        known = value in self._known
        self._known.discard(value)
        return known


class Registry:
    """The metrics of one process. Names of counters end in _total."""

    def __init__(self, aliases: Sequence[Alias] = ()) -> None:
        self.described: list[Described] = []
        self.why_not_ready: Callable[[], str] = lambda: ""  # asked in the loop's thread; empty: it is ready
        self._registry = _WithAliases(aliases)
        self._states = _States()
        self._registry.register(self._states)

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        self._describe(name, "counter", labels, text)
        return Counter(name, text, labels, registry=self._registry)

    def histogram(
        self, name: str, text: str, labels: Sequence[str] = (), buckets: Sequence[float] = LONG_S
    ) -> Histogram:
        self._describe(name, "histogram", labels, text)
        return Histogram(name, text, labels, buckets=buckets, registry=self._registry)

    def gauge(self, name: str, text: str, labels: Sequence[str], read: Callable[[], Values]) -> None:
        """`read` is called at each scrape, in the loop's thread."""
        self._describe(name, "gauge", labels, text)
        self._states.add(lambda: GaugeMetricFamily(name, text, labels=labels), read)

    def count(self, name: str, text: str, labels: Sequence[str], read: Callable[[], Values]) -> None:
        """A counter that somebody keeps as a plain number anyway, read like a gauge."""
        self._describe(name, "counter", labels, text)
        self._states.add(lambda: CounterMetricFamily(name, text, labels=labels), read)

    def describe_process(self, service: str) -> None:
        """What every process says of itself, and what it is."""
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        version, limit_bytes = importlib.metadata.version("kottos"), memory_limit_bytes()
        self.gauge(
            "kottos_build_info", "1, of this version of this service.", ["service", "version"],
            lambda: [((service, version), 1.0)],
        )  # fmt: skip
        self.gauge("kottos_memory_limit_bytes", "Memory that it may have.", [], lambda: [((), limit_bytes)])

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on state is read in this loop's thread, and rendered in others only."""
        self._states.loop = loop

    def render(self) -> bytes:
        """The text of a scrape. Attached: blocks until the loop has read its state; raises TimeoutError."""
        return generate_latest(self._registry)

    @contextmanager
    def serving(self, config: TelemetryConfig) -> Iterator[str]:
        """Answers scrapes, /health and /ready on a thread of its own; yields host:port, empty where nobody may ask.

        Raises ConfigError.
        """
        if not config.metrics_host:
            yield ""
            return
        host, port = config.metrics_host, config.metrics_port
        try:
            server, thread = start_http_server(port, host, self._registry)
            server.set_app(with_health(make_wsgi_app(self._registry), lambda: self._states.in_loop(self.why_not_ready)))
        except OSError as error:
            raise ConfigError(
                f"telemetry.metrics_host {host}, telemetry.metrics_port {port}: {error.strerror}; set another"
            ) from error
        try:
            yield _address(host, server.server_port)
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def _describe(self, name: str, kind: Kind, labels: Sequence[str], text: str) -> None:
        if (kind == "counter") != name.endswith("_total"):
            raise ValueError(f"{name}: counters end in _total, and nothing else does")
        if any(name == known.name for known in self.described):
            raise ValueError(f"{name} is there already")
        self.described.append(Described(name, kind, tuple(labels), text))


class _WithAliases(CollectorRegistry):
    def __init__(self, aliases: Sequence[Alias]) -> None:
        super().__init__()
        self._aliases = aliases

    def collect(self) -> Iterable[Metric]:
        return with_aliases(super().collect(), self._aliases)


class _States(Collector):
    """All that is read when somebody asks: at once, so that the numbers of a scrape belong together."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._states: list[_State] = []

    def add(self, family: Callable[[], _Family], read: Callable[[], Values]) -> None:
        self._states.append((family, read))

    def collect(self) -> Iterable[Metric]:
        states = self._states.copy()  # the loop may add others meanwhile
        families = [family() for family, _ in states]
        for family, values in zip(families, self.in_loop(lambda: _read(states)), strict=True):
            sums: dict[tuple[str, ...], float] = {}  # several may share "other", and a scrape must say it once
            for labels, value in values:
                sums[labels] = sums.get(labels, 0.0) + value
            for labels, value in sums.items():
                family.add_metric(labels, value)
        return families

    def in_loop(self, read: Callable[[], _T]) -> _T:
        """Raises TimeoutError."""
        if self.loop is None:
            return read()
        answer: Future[_T] = Future()

        def answer_now() -> None:
            try:
                answer.set_result(read())
            except Exception as error:
                answer.set_exception(error)

        self.loop.call_soon_threadsafe(answer_now)
        return answer.result(_READ_TIMEOUT_S)


def _read(states: Sequence[_State]) -> list[list[Value]]:
    return [list(read()) for _, read in states]


def labelled(counts: Mapping[str, int]) -> Values:
    return [((label,), count) for label, count in counts.items()]


def _address(host: str, port: int) -> str:
    """As others reach it: this machine's name stands for all its addresses."""
    host = socket.gethostname() if host in ("0.0.0.0", "::") else host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
