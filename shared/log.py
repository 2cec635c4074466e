"""Log lines on stderr: time, level, service, message. Never a prompt, an output or a secret."""

import logging
import sys


def setup(service: str, level: str) -> None:
    """Called once, first thing in every process."""
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format=f"%(asctime)s %(levelname)-7s {service} %(name)s: %(message)s",
        force=True,
    )
    for noisy in ("aiohttp.access", "nats", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
