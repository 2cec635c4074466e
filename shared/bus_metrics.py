"""What every service measures of its message bus."""

from shared.bus import Bus
from shared.telemetry import Registry, Values


def watch_bus(registry: Registry, bus: Bus) -> None:
    def faults() -> Values:
        stats = bus.stats
        yield ("undecodable",), stats.num_undecodable
        yield ("handler",), stats.num_handler_errors
        yield ("reply",), stats.num_failed_replies
        yield ("permission",), stats.num_violations

    registry.gauge("kottos_bus_connected", "Whether the message bus is.", [], lambda: [((), float(bus.connected))])
    registry.count(
        "kottos_bus_reconnects_total", "Connections that took the place of a lost one.", [],
        lambda: [((), bus.stats.num_reconnects)],
    )  # fmt: skip
    registry.count(
        "kottos_bus_lost_messages_total", "Messages lost because their handler lagged behind.", [],
        lambda: [((), bus.stats.num_slow_drops)],
    )  # fmt: skip
    registry.count(
        "kottos_bus_faults_total", "Messages that are none, that a handler failed on, or that were not sent.", ["kind"],
        faults,
    )  # fmt: skip
