"""JSON bodies: requests' decoded or refused, responses' encoded."""

import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web

from gateway.request.params import invalid

_MAX_MESSAGE_CHARS: Final = 300
_MISSING: Final = re.compile(r"missing required field `(\w+)`")

T = TypeVar("T")


def parse(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Raises RequestError."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:  # well-formed, of a wrong type
        message, _, path = str(error).replace(" - at `key` in `$", " - at `$").partition(" - at `$")
        missing = _MISSING.search(message)
        names = [path.rstrip("`").removeprefix("."), missing.group(1) if missing else ""]
        raise invalid(str(error)[:_MAX_MESSAGE_CHARS], ".".join(filter(None, names)) or None) from None
    except RecursionError:
        raise invalid("The body is nested too deeply.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid(f"The body is not valid JSON: {error}"[:_MAX_MESSAGE_CHARS]) from None


def json_text(value: Mapping[str, Any], param: str) -> str:
    """What was decoded, as text again. Raises RequestError."""
    try:
        return msgspec.json.encode(value).decode()
    except (RecursionError, OverflowError):
        raise invalid(f"{param} is nested too deeply or has numbers that are too large.", param) from None


def json_response(body: msgspec.Struct, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")
