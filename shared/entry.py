"""How every service process begins and ends: configuration, log, event loop, exit status."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Final

import uvloop

from shared import log
from shared.config import Config, load_config
from shared.errors import ConfigError, KottosError

EXIT_REFUSED: Final = 2  # the configuration is at fault: starting again changes nothing


def run_service(name: str, serve: Callable[[Config, asyncio.Event], Awaitable[None]]) -> int:
    """Runs `serve(config, stopping)` until it returns; SIGTERM and SIGINT set `stopping`. Returns the exit status:
    0 it stopped, 1 it failed for a reason that is said, EXIT_REFUSED it refuses its configuration.
    """

    async def serve_until_signal(config: Config) -> None:
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        await serve(config, stopping)

    try:
        config = load_config()
        log.setup(name, config.log_level, config.telemetry.log_format)
        uvloop.run(serve_until_signal(config))
    except KottosError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return EXIT_REFUSED if isinstance(error, ConfigError) else 1
    return 0
