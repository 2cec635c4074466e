"""Errors that name parameters as this API does."""

from typing import Final

from aiohttp import web

from gateway.http.errors import ErrorDetail, OpenAIStyle, detail_of
from shared.errors import RequestError

_NAMES: Final = {
    "max_tokens": "max_output_tokens",
    "messages": "input",
    "prompt": "input",
    "response_format": "text.format",
}


class ResponsesStyle(OpenAIStyle):
    def of_error(self, error: RequestError, request_id: str) -> web.Response:
        return super().of_error(_renamed(error), request_id)

    def detail_of(self, error: RequestError) -> ErrorDetail:
        """As the last event of a stream has it."""
        return detail_of(_renamed(error))


STYLE: Final = ResponsesStyle()


def _renamed(error: RequestError) -> RequestError:
    param = _NAMES.get(error.param or "", error.param)
    return RequestError(error.code, error.message, param=param, retry_after_s=error.retry_after_s)
