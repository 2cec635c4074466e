"""Every error that a client can see: one table, one body, one middleware."""

import asyncio
import logging
import math
import traceback
from typing import Final, NamedTuple

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from shared.errors import ErrorCode, RequestError
from shared.ids import new_id

_log = logging.getLogger(__name__)

_MAX_MESSAGE_CHARS: Final = 1000
_MAX_REQUEST_ID_CHARS: Final = 128
REQUEST_ID: Final = web.RequestKey("request_id", str)


class Shown(NamedTuple):
    """How an error code appears in OpenAI's terms."""

    status: int
    type: str
    code: str | None


TABLE: Final[dict[ErrorCode, Shown]] = {
    ErrorCode.INVALID_REQUEST: Shown(400, "invalid_request_error", None),
    ErrorCode.CONTEXT_LENGTH_EXCEEDED: Shown(400, "invalid_request_error", "context_length_exceeded"),
    ErrorCode.NO_CHAT_TEMPLATE: Shown(400, "invalid_request_error", "no_chat_template"),
    ErrorCode.MODEL_NOT_FOUND: Shown(404, "invalid_request_error", "model_not_found"),
    ErrorCode.BODY_TOO_LARGE: Shown(413, "invalid_request_error", "body_too_large"),
    ErrorCode.OVERLOADED: Shown(429, "rate_limit_error", "overloaded"),
    ErrorCode.UNAVAILABLE: Shown(503, "service_unavailable", "unavailable"),
    ErrorCode.CANCELLED: Shown(503, "service_unavailable", "cancelled"),
    ErrorCode.INTERNAL: Shown(500, "server_error", "internal_error"),
}
_RETRIED: Final = frozenset({429, 503})  # answers that always say when to come again
_DEFAULT_RETRY_AFTER_S: Final = 1.0


class ErrorDetail(msgspec.Struct, frozen=True):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(msgspec.Struct, frozen=True):
    error: ErrorDetail


def body_of(error: RequestError) -> bytes:
    shown = TABLE[error.code]
    return _encode(error.message, shown.type, error.param, shown.code)


def response_of(error: RequestError) -> web.Response:
    status = TABLE[error.code].status
    response = web.Response(status=status, body=body_of(error), content_type="application/json")
    if status in _RETRIED:
        response.headers["Retry-After"] = str(math.ceil(error.retry_after_s or _DEFAULT_RETRY_AFTER_S))
    return response


INTERNAL: Final = RequestError(ErrorCode.INTERNAL, "The server failed on this request.")


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Gives every request an id, and every failure OpenAI's error body."""
    request[REQUEST_ID] = request_id = _request_id(request)
    try:
        response = await handler(request)
    except RequestError as error:
        response = response_of(error)
    except web.HTTPException as error:
        response = _http_response(error)
    except (asyncio.CancelledError, ConnectionError):
        raise  # the client left
    except Exception as error:
        log_failure(request_id, error)
        response = response_of(INTERNAL)
    if not response.prepared:
        response.headers["X-Request-Id"] = request_id
    return response


def log_failure(request_id: str, error: Exception) -> None:
    """Its place and type; its text may quote a prompt."""
    place = "".join(traceback.format_tb(error.__traceback__))
    _log.error("request %s failed: %s\n%s", request_id, type(error).__name__, place)


def _http_response(error: web.HTTPException) -> web.Response:
    """aiohttp's own refusals: no such route, no such method, a body over the limit."""
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return response_of(RequestError(ErrorCode.BODY_TOO_LARGE, "The request body is too large."))
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    response = web.Response(
        status=error.status, body=_encode(error.reason, kind, None, None), content_type="application/json"
    )
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response


def _request_id(request: web.Request) -> str:
    """The client's, if it is harmless, or a new one."""
    given = request.headers.get("X-Request-Id", "")
    is_usable = 0 < len(given) <= _MAX_REQUEST_ID_CHARS and given.isascii() and given.isprintable()
    return given if is_usable else new_id("req")


def _encode(message: str, kind: str, param: str | None, code: str | None) -> bytes:
    return msgspec.json.encode(ErrorBody(ErrorDetail(message[:_MAX_MESSAGE_CHARS], kind, param, code)))
