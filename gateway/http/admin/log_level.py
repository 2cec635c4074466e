"""PUT /admin/log-level: what services say in their logs, until they are started again."""

import logging
from typing import Annotated, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from gateway.http.auth import TENANT
from gateway.http.bodies import json_response, parse
from shared import subjects
from shared.bus import Bus
from shared.config import LogLevel
from shared.errors import BusError, ErrorCode, RequestError
from shared.messages import SetLogLevel

_log = logging.getLogger(__name__)

_MAX_NAME_CHARS: Final = 128
Name = Annotated[str, Meta(max_length=_MAX_NAME_CHARS)]


class LogLevelChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    level: LogLevel | None  # null: as it was when the service started
    logger: Name = ""  # and those below it; empty: all that have no level of their own
    service: Name = ""  # gateway, router, worker, or the id of one; empty: all


log_level_decoder: Final = msgspec.json.Decoder(LogLevelChange)


class LogLevelRoutes:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def add_to(self, app: web.Application) -> None:
        app.add_routes([web.put("/admin/log-level", self.change)])

    async def change(self, request: web.Request) -> web.Response:
        """Told to all that are connected now. Who has no such logger ignores it."""
        asked = parse(await request.read(), log_level_decoder)
        if not self._bus.connected:
            raise _untold()
        try:
            await self._bus.publish(subjects.CONTROL_LOG, SetLogLevel(asked.logger, asked.level, asked.service))
        except BusError:
            raise _untold() from None
        _log.info("%s changed a log level", request[TENANT].id)
        return json_response(asked)


def _untold() -> RequestError:
    return RequestError(ErrorCode.UNAVAILABLE, "The services can't be told just now.", retry_after_s=1.0)
