"""Log levels that an administrator changes while services run."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared import log, subjects
from shared.bus import Bus
from shared.messages import AnyMessage, SetLogLevel

_log = logging.getLogger(__name__)


@asynccontextmanager
async def levels_from(bus: Bus, service: str, name: str) -> AsyncIterator[None]:
    """Meanwhile this process's loggers do as they are told. service: gateway, router or worker; name: its id."""

    def on_message(message: AnyMessage) -> None:
        if not isinstance(message, SetLogLevel) or message.service not in ("", service, name):
            return
        if log.set_level(message.logger, message.level):
            _log.warning("the level of %r is now %s", message.logger or "all", message.level or "as it was")

    subscription = await bus.subscribe(subjects.CONTROL_LOG, on_message)
    try:
        yield
    finally:
        await subscription.unsubscribe()
