"""`python -m gateway`: serves until SIGTERM or SIGINT."""

import asyncio
import logging
import sys

from gateway.app import open_gateway
from shared.bus import NatsBus
from shared.config import Config
from shared.entry import run_service
from shared.ids import new_id
from shared.tracing import open_tracer

_log = logging.getLogger(__name__)


async def serve(config: Config, stopping: asyncio.Event) -> None:
    async with (
        open_tracer(config.telemetry, "gateway", new_id("gateway")) as tracer,
        open_gateway(config, NatsBus(config.bus, "gateway"), tracer=tracer) as gateway,
    ):
        _log.info("serving on http://%s:%d as %s", gateway.host, gateway.port, gateway.owner_id)
        await stopping.wait()
        _log.info("stopping")


if __name__ == "__main__":
    sys.exit(run_service("gateway", serve))
