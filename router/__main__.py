"""`python -m router`: one router on the NATS server that the configuration names."""

import asyncio
import logging
import signal
import sys

import uvloop

from router.service import Router
from shared import log
from shared.bus import NatsBus
from shared.config import Config, load_config
from shared.errors import KottosError
from shared.ids import Incarnation, new_id

_log = logging.getLogger("router")


async def run(config: Config) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    bus = NatsBus(config.bus, "router")
    await bus.start()
    try:
        incarnation = Incarnation(new_id("router"))
        _log.info("router %s serves", incarnation)
        await Router(bus, config.router, incarnation).run(stopping)
        _log.info("router %s stops", incarnation)
    finally:
        await bus.close()


def main() -> int:
    try:
        config = load_config()
        log.setup("router", config.log_level)
        uvloop.run(run(config))
    except KottosError as error:
        print(f"router: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
