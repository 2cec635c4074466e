"""`python -m gateway`: serves until SIGTERM or SIGINT."""

import asyncio
import logging
import sys

from gateway.app import open_gateway
from shared.bus import NatsBus
from shared.config import Config
from shared.entry import run_service

_log = logging.getLogger(__name__)


async def serve(config: Config, stopping: asyncio.Event) -> None:
    async with open_gateway(config, NatsBus(config.bus, "gateway")) as gateway:
        _log.info("serving on http://%s:%d as %s", gateway.host, gateway.port, gateway.owner_id)
        await stopping.wait()
        _log.info("stopping")


if __name__ == "__main__":
    sys.exit(run_service("gateway", serve))
