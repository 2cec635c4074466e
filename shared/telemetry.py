"""What a process measures, and where it is read: Prometheus' text format. The only place with prometheus_client.

Counters and histograms are written where things happen; what is state already (memory, queues) is read when somebody
asks. Scrapes are rendered beside the event loop, but state is read in the loop's thread, which owns it.
"""

import asyncio
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Final, Literal, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, start_http_server
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shared.config import TelemetryConfig
from shared.errors import ConfigError

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
LONG_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
SHORT_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
OTHER: Final = "other"
_MAX_LABEL_VALUES: Final = 256
_READ_TIMEOUT_S: Final = 5.0  # for the loop to read its state; then the scrape fails

Kind = Literal["counter", "gauge", "histogram"]
Value = tuple[tuple[str, ...], float]  # label values, number
Values = Iterable[Value]
_Family = CounterMetricFamily | GaugeMetricFamily


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

    def forget(self, value: str) -> bool:
        """Makes room for another; whether it was known."""
        known = value in self._known
        self._known.discard(value)
        return known


class Registry:
    """The metrics of one process. Names of counters end in _total."""

    def __init__(self) -> None:
        self.described: list[Described] = []
        self._registry = CollectorRegistry()
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

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on state is read in this loop's thread, and rendered in others only."""
        self._states.loop = loop

    def render(self) -> bytes:
        """The text of a scrape. Attached: blocks until the loop has read its state; raises TimeoutError."""
        return generate_latest(self._registry)

    @contextmanager
    def serving(self, config: TelemetryConfig) -> Iterator[str]:
        """Answers scrapes on a thread of its own; yields host:port, empty where nobody may ask. Raises ConfigError."""
        if not config.metrics_host:
            yield ""
            return
        host, port = config.metrics_host, config.metrics_port
        try:
            server, thread = start_http_server(port, host, self._registry)
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


class _States(Collector):
    """All that is read when somebody asks: at once, so that the numbers of a scrape belong together."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._states: list[tuple[Callable[[], _Family], Callable[[], Values]]] = []

    def add(self, family: Callable[[], _Family], read: Callable[[], Values]) -> None:
        self._states.append((family, read))

    def collect(self) -> Iterable[Metric]:
        families = [family() for family, _ in self._states]
        for family, values in zip(families, self._read_in_loop(), strict=True):
            sums: dict[tuple[str, ...], float] = {}  # several may share "other", and a scrape must say it once
            for labels, value in values:
                sums[labels] = sums.get(labels, 0.0) + value
            for labels, value in sums.items():
                family.add_metric(labels, value)
        return families

    def _read(self) -> list[list[Value]]:
        return [list(read()) for _, read in self._states]

    def _read_in_loop(self) -> list[list[Value]]:
        if self.loop is None:
            return self._read()
        answer: Future[list[list[Value]]] = Future()

        def answer_now() -> None:
            try:
                answer.set_result(self._read())
            except Exception as error:
                answer.set_exception(error)

        self.loop.call_soon_threadsafe(answer_now)
        return answer.result(_READ_TIMEOUT_S)


def _address(host: str, port: int) -> str:
    """As others reach it: this machine's name stands for all its addresses."""
    host = socket.gethostname() if host in ("0.0.0.0", "::") else host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
