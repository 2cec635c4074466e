"""Log lines on stderr, for people or as JSON: time, level, service, logger, message, and the request that it is about.

Never a prompt, an output or a secret. Levels may change while a process runs; they are as configured after a restart.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final

import msgspec

from shared.config import LogFormat, LogLevel

_NOISY: Final = ("aiohttp.access", "nats", "asyncio")
_COLOURS: Final = {logging.DEBUG: "2", logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "31"}
_request: ContextVar[str] = ContextVar("request", default="")
_at_start: dict[str, int] = {}  # levels of what has one of its own; "" is all that has none


def setup(service: str, level: str, style: LogFormat = "console") -> None:
    """Called once, first thing in every process."""
    handler = logging.StreamHandler(sys.stderr)
    is_terminal = sys.stderr.isatty()
    handler.setFormatter(JsonLines(service) if style == "json" else Console(service, in_colour=is_terminal))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)
    _at_start.clear()
    _at_start.update({"": logging.getLogger().level} | dict.fromkeys(_NOISY, logging.WARNING))


@contextmanager
def about(request_id: str) -> Iterator[None]:
    """Every line meanwhile, and those of tasks that begin meanwhile, is about this request."""
    token = _request.set(request_id)
    try:
        yield
    finally:
        _request.reset(token)


def subject() -> str:
    """The request that lines are about now, or nothing."""
    return _request.get()


def fields(**values: object) -> dict[str, object]:
    """What a line says as data, besides its message: `log.info("...", extra=fields(model=name))`."""
    return {"fields": values}


def set_level(logger: str, level: LogLevel | None) -> bool:
    """Of a logger and those below it; "" is the root, None as it was at the start. Whether there is such a logger."""
    if logger and logger not in logging.root.manager.loggerDict:
        return False
    number = _at_start.get(logger, logging.NOTSET) if level is None else logging.getLevelNamesMapping()[level.upper()]
    logging.getLogger(logger).setLevel(number)
    return True


class Console(logging.Formatter):
    def __init__(self, service: str, *, in_colour: bool) -> None:
        super().__init__(f"%(asctime)s %(shown_level)s {service} %(name)s: %(message)s%(details)s")
        self._in_colour = in_colour

    def format(self, record: logging.LogRecord) -> str:
        details = _details(record)
        record.shown_level = self._level(record)
        record.details = "".join(f" {key}={_shown(value)}" for key, value in details.items())
        return super().format(record)

    def _level(self, record: logging.LogRecord) -> str:
        name, colour = f"{record.levelname:<7}", _COLOURS.get(record.levelno)
        return f"\x1b[{colour}m{name}\x1b[0m" if self._in_colour and colour else name


class JsonLines(logging.Formatter):
    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode({**line, **_details(record), **line}, enc_hook=str).decode()


def _details(record: logging.LogRecord) -> dict[str, object]:
    request_id = _request.get()
    return ({"request": request_id} if request_id else {}) | getattr(record, "fields", {})


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = str(value)
    return text if text.isprintable() and " " not in text else repr(text)
