"""`python -m gateway`: serves until SIGTERM or SIGINT."""

import asyncio
import logging
import signal
import sys

import uvloop

from gateway.app import open_gateway
from shared import log
from shared.bus import NatsBus
from shared.config import Config, load_config
from shared.errors import KottosError

_log = logging.getLogger(__name__)


def main() -> int:
    try:
        config = load_config()
        log.setup("gateway", config.log_level)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(config))
    except KottosError as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 1
    return 0


async def _serve(config: Config) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with open_gateway(config, NatsBus(config.bus, "gateway")) as gateway:
        _log.info("serving on http://%s:%d as %s", gateway.host, gateway.port, gateway.owner_id)
        await stop.wait()
        _log.info("stopping")


if __name__ == "__main__":
    sys.exit(main())
