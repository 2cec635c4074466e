"""Errors that name parameters as this API does."""

from typing import Final

from aiohttp import web

from gateway.http.errors import OpenAIStyle
from shared.errors import RequestError

_NAMES: Final = {
    "max_tokens": "max_output_tokens",
    "messages": "input",
    "prompt": "input",
    "response_format": "text.format",
}


class ResponsesStyle(OpenAIStyle):
    def of_error(self, error: RequestError, request_id: str) -> web.Response:
        param = _NAMES.get(error.param or "", error.param)
        renamed = RequestError(error.code, error.message, param=param, retry_after_s=error.retry_after_s)
        return super().of_error(renamed, request_id)
