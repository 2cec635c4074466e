"""Every error that a client can see: one table, one middleware, OpenAI's body."""

import asyncio
import logging
import math
import traceback
from typing import Final, NamedTuple, Protocol

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from shared import log
from shared.errors import ErrorCode, RequestError
from shared.ids import new_id

_log = logging.getLogger(__name__)

MAX_MESSAGE_CHARS: Final = 1000
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
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: Shown(415, "invalid_request_error", "unsupported_media_type"),
    ErrorCode.CLIENT_TOO_SLOW: Shown(408, "invalid_request_error", "client_too_slow"),
    ErrorCode.INVALID_API_KEY: Shown(401, "invalid_request_error", "invalid_api_key"),
    ErrorCode.PERMISSION_DENIED: Shown(403, "invalid_request_error", "permission_denied"),
    ErrorCode.CONFLICT: Shown(409, "invalid_request_error", "conflict"),
    ErrorCode.RATE_LIMITED: Shown(429, "rate_limit_error", "rate_limit_exceeded"),
    ErrorCode.OVERLOADED: Shown(429, "rate_limit_error", "overloaded"),
    ErrorCode.TIMED_OUT: Shown(504, "timeout_error", "timed_out"),
    ErrorCode.UNAVAILABLE: Shown(503, "service_unavailable", "unavailable"),
    ErrorCode.CANCELLED: Shown(503, "service_unavailable", "cancelled"),
    ErrorCode.INTERNAL: Shown(500, "server_error", "internal_error"),
}
_RETRIED: Final = frozenset({429, 503, 529})  # answers that always say when to come again
_DEFAULT_RETRY_AFTER_S: Final = 1.0
_UNAUTHORIZED: Final = 401


class ErrorDetail(msgspec.Struct, frozen=True):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(msgspec.Struct, frozen=True):
    error: ErrorDetail


def detail_of(error: RequestError) -> ErrorDetail:
    shown = TABLE[error.code]
    return ErrorDetail(error.message[:MAX_MESSAGE_CHARS], shown.type, error.param, shown.code)


def body_of(error: RequestError) -> bytes:
    return msgspec.json.encode(ErrorBody(detail_of(error)))


def json_error(status: int, body: bytes, error: RequestError | None = None) -> web.Response:
    """With Retry-After where a client may come again."""
    response = web.Response(status=status, body=body, content_type="application/json")
    if status == _UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    if status in _RETRIED:
        after_s = error.retry_after_s if error else None
        response.headers["Retry-After"] = str(math.ceil(after_s or _DEFAULT_RETRY_AFTER_S))
    return response


def response_of(error: RequestError) -> web.Response:
    return json_error(TABLE[error.code].status, body_of(error), error)


class Style(Protocol):
    """How errors look to clients of some routes."""

    def of_error(self, error: RequestError, request_id: str) -> web.Response: ...

    def of_status(self, status: int, reason: str, request_id: str) -> web.Response:
        """For what the HTTP server refuses by itself."""


class OpenAIStyle:
    def of_error(self, error: RequestError, request_id: str) -> web.Response:
        return response_of(error)

    def of_status(self, status: int, reason: str, request_id: str) -> web.Response:
        kind = "invalid_request_error" if status < 500 else "server_error"
        return json_error(
            status, msgspec.json.encode(ErrorBody(ErrorDetail(reason[:MAX_MESSAGE_CHARS], kind, None, None)))
        )


# By the beginning of a route's path; what has none looks like OpenAI's.
STYLES: Final = web.AppKey("styles", dict[str, Style])
_OPENAI: Final = OpenAIStyle()
INTERNAL: Final = RequestError(ErrorCode.INTERNAL, "The server failed on this request.")


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Gives every request an id, and every failure an error body."""
    request[REQUEST_ID] = request_id = _request_id(request)
    style = _style(request)
    try:
        with log.about(request_id):
            response = await handler(request)
    except RequestError as error:
        response = style.of_error(error, request_id)
    except web.HTTPException as error:
        response = _http_response(error, style, request_id)
    except (asyncio.CancelledError, ConnectionError):
        raise  # the client left
    except Exception as error:
        log_failure(request_id, error)
        response = style.of_error(INTERNAL, request_id)
    if not response.prepared:
        response.headers["X-Request-Id"] = request_id
        if not request.content.is_eof():
            response.force_close()  # nobody reads the rest of its body
    return response


def _style(request: web.Request) -> Style:
    styles = request.app.get(STYLES, {})
    return next((style for start, style in styles.items() if request.path.startswith(start)), _OPENAI)


def log_failure(request_id: str, error: Exception) -> None:
    """Its place and type; its text may quote a prompt."""
    place = "".join(traceback.format_tb(error.__traceback__))
    with log.about(request_id):
        _log.error("the request failed: %s\n%s", type(error).__name__, place)


def _http_response(error: web.HTTPException, style: Style, request_id: str) -> web.Response:
    """aiohttp's own refusals: no such route, no such method, a body over the limit."""
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        too_large = RequestError(ErrorCode.BODY_TOO_LARGE, "The request body is too large.")
        return style.of_error(too_large, request_id)
    response = style.of_status(error.status, error.reason, request_id)
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response


def _request_id(request: web.Request) -> str:
    """The client's, if it is harmless, or a new one."""
    given = request.headers.get("X-Request-Id", "")
    is_usable = 0 < len(given) <= _MAX_REQUEST_ID_CHARS and given.isascii() and given.isprintable()
    return given if is_usable else new_id("req")
