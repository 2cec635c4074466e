"""What of a gateway's state a scrape reads: what is in flight, who waits and for how long, what readers leave."""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.admission.admission import Admission
from gateway.admission.waiting import WaitingLines
from gateway.attainment import Attainment, TokenCounts
from gateway.http.connections import Connections
from gateway.sequences.ledger import Ledger
from gateway.sequences.owner import Owner
from gateway.text.pool import TextPool
from shared.bus import Bus
from shared.bus_metrics import watch_bus
from shared.telemetry import Label, Registry, Values


@dataclass(frozen=True, slots=True)
class Watched:
    """Nothing of it is changed."""

    bus: Bus
    admission: Admission
    lines: WaitingLines
    owner: Owner
    ledger: Ledger
    attainment: Attainment
    texts: TextPool
    connections: Connections
    clock: Callable[[], float]


def watch(registry: Registry, gateway: Watched) -> None:
    def gauge(name: str, text: str, read: Callable[[], int]) -> None:
        registry.gauge(name, text, [], lambda: [((), read())])

    _watch_models(registry, gateway)
    gauge(
        "kottos_requests_in_flight",
        "Sequences from admission to their last byte.",
        lambda: gateway.admission.num_open,
    )
    gauge("kottos_requests_submitting", "Those that no router took yet.", lambda: gateway.owner.num_submitting)
    gauge("kottos_requests_waiting", "Those without their first token.", lambda: gateway.ledger.num_waiting)
    gauge("kottos_text_jobs_waiting", "Prompts to render or tokenize.", lambda: gateway.texts.num_waiting)
    gauge("kottos_http_connections", "Open connections.", lambda: gateway.connections.num_open)
    gauge(
        "kottos_unread_tokens",
        "Tokens that readers have not taken yet, each once more for every log-probability.",
        lambda: sum(reader.num_unread for reader in gateway.admission.readers()),
    )
    watch_bus(registry, gateway.bus)


def _watch_models(registry: Registry, gateway: Watched) -> None:
    def of_models(number: Callable[[TokenCounts], int]) -> Values:
        label = Label()  # of those that are served now
        return [((label(model),), number(counts)) for model, counts in gateway.attainment]

    def predicted_ttft() -> Values:
        label = Label()
        waits_s = gateway.lines.predicted_waits_s(gateway.clock())
        return [((label(model),), wait_s) for model, wait_s in waits_s.items() if wait_s is not None]

    registry.count(
        "kottos_due_tokens_total", "Tokens that were due: written, or overdue when their request ended.", ["model"],
        lambda: of_models(lambda counts: counts.num_due),
    )  # fmt: skip
    registry.count(
        "kottos_on_time_tokens_total", "Those of them that were written in time.", ["model"],
        lambda: of_models(lambda counts: counts.num_on_time),
    )  # fmt: skip
    registry.gauge(
        "kottos_predicted_ttft_seconds", "What a request that came now would wait for its first token, once known.",
        ["model"], predicted_ttft,
    )  # fmt: skip
