import msgspec
import pytest

from gateway.http.anthropic.errors import AnthropicStyle, error_body, status_of
from gateway.http.errors import TABLE
from shared.errors import ErrorCode, RequestError


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        (ErrorCode.INVALID_REQUEST, 400, "invalid_request_error"),
        (ErrorCode.CONTEXT_LENGTH_EXCEEDED, 400, "invalid_request_error"),
        (ErrorCode.INVALID_API_KEY, 401, "authentication_error"),
        (ErrorCode.PERMISSION_DENIED, 403, "permission_error"),
        (ErrorCode.MODEL_NOT_FOUND, 404, "not_found_error"),
        (ErrorCode.BODY_TOO_LARGE, 413, "request_too_large"),
        (ErrorCode.RATE_LIMITED, 429, "rate_limit_error"),
        (ErrorCode.OVERLOADED, 529, "overloaded_error"),
        (ErrorCode.UNAVAILABLE, 503, "api_error"),
        (ErrorCode.INTERNAL, 500, "api_error"),
    ],
)
def test_statuses_and_types_as_documented(code: ErrorCode, status: int, kind: str) -> None:
    assert status_of(code) == status
    assert error_body(RequestError(code, "no"), "req-1").error.type == kind


def test_the_body() -> None:
    error = RequestError(ErrorCode.INVALID_REQUEST, "Each must have a character.", param="stop")
    response = AnthropicStyle().of_error(error, "req-1")
    assert isinstance(response.body, bytes)
    assert msgspec.json.decode(response.body) == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "stop_sequences: Each must have a character."},
        "request_id": "req-1",
    }
    assert response.headers["request-id"] == "req-1"


@pytest.mark.parametrize("code", [code for code in TABLE if status_of(code) in (429, 503, 529)])
def test_who_shall_come_again_is_told_when(code: ErrorCode) -> None:
    error = RequestError(code, "later", retry_after_s=2.5)
    assert AnthropicStyle().of_error(error, "r").headers["Retry-After"] == "3"
