"""Errors as Anthropic's API has them (platform.claude.com/docs/en/api/errors)."""

from typing import Final

import msgspec
from aiohttp import web

from gateway.http.errors import MAX_MESSAGE_CHARS, TABLE, json_error
from shared.errors import ErrorCode, RequestError

REQUEST_ID_HEADER: Final = "request-id"  # Anthropic's clients look for it
_OVERLOADED: Final = 529  # our queues are full; 429 is about what a client has used up
_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    _OVERLOADED: "overloaded_error",
}
_FIELDS: Final = {  # parameters that have another name here
    "stop": "stop_sequences",
    "prompt": "messages",
    "response_format": "output_config.format",
}


class ErrorDetail(msgspec.Struct, frozen=True):
    type: str
    message: str


class ErrorBody(msgspec.Struct, frozen=True, tag="error", tag_field="type"):
    error: ErrorDetail
    request_id: str


def status_of(code: ErrorCode) -> int:
    return _OVERLOADED if code is ErrorCode.OVERLOADED else TABLE[code].status


def error_body(error: RequestError, request_id: str) -> ErrorBody:
    """There is no field for the parameter at fault, so the message begins with it."""
    field = _FIELDS.get(error.param or "", error.param)
    return _body(status_of(error.code), f"{field}: {error.message}" if field else error.message, request_id)


class AnthropicStyle:
    def of_error(self, error: RequestError, request_id: str) -> web.Response:
        body = msgspec.json.encode(error_body(error, request_id))
        return _with_id(json_error(status_of(error.code), body, error), request_id)

    def of_status(self, status: int, reason: str, request_id: str) -> web.Response:
        body = msgspec.json.encode(_body(status, reason, request_id))
        return _with_id(json_error(status, body), request_id)


def _body(status: int, message: str, request_id: str) -> ErrorBody:
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return ErrorBody(ErrorDetail(kind, message[:MAX_MESSAGE_CHARS]), request_id)


def _with_id(response: web.Response, request_id: str) -> web.Response:
    response.headers[REQUEST_ID_HEADER] = request_id
    return response
