"""`kottos steward`: the steward of services that run on their own, in containers or on several machines.

imports the configured models -> says what is served, and takes changes, until it is stopped
"""

import asyncio
import contextlib
import logging
import os

from rich.console import Console

from cli.kept_changes import kept_changes
from cli.prepare import prepare
from cli.steward import Steward
from shared.bus import Bus, NatsBus
from shared.config import Config
from shared.entry import run_service
from shared.errors import ConfigError
from shared.telemetry import Registry

_log = logging.getLogger(__name__)


def main() -> int:
    """Returns the exit status, as the other services have it."""
    return run_service("steward", serve)


async def serve(config: Config, stopping: asyncio.Event) -> None:
    """Until `stopping` is set. Raises ConfigError, ModelError, BusUnavailable."""
    if not config.bus.url:
        raise ConfigError("bus.url: a steward alone needs the NATS server of the services that it is for")
    bus, registry = NatsBus(config.bus, "steward"), Registry()
    registry.attach(asyncio.get_running_loop())
    registry.why_not_ready = lambda: "models are being imported"
    with registry.serving(config.telemetry):
        working = asyncio.create_task(_work(config, bus, registry))
        stopped = asyncio.create_task(stopping.wait())
        await asyncio.wait([working, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not working.done():
            _log.info("stopping")
            working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working


async def _work(config: Config, bus: Bus, registry: Registry) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("KOTTOS_")}
    with kept_changes(config.state_dir) as kept:
        config = await prepare(config, environ, Console(stderr=True), kept.changes)
        served, keep = kept.served(config.models), kept.keeper(config.models)
        if not served:
            _log.warning("models: none is configured, and none was added before: the catalogue is empty")
        registry.why_not_ready = lambda: "" if bus.connected else "the message bus is disconnected"
        _log.info("%d models are served", len(served))
        await Steward(bus, served, kept.changes.drained, keep).run()
