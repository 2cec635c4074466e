"""Whether a service without HTTP of its own is well, beside its metrics: GET /health and GET /ready.

`python -m shared.health URL` asks, as images have no curl: exit status 0 when the answer is 200.
"""

import http.client
import sys
from collections.abc import Callable, Iterable
from typing import Final
from urllib.parse import urlsplit
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_ASK_TIMEOUT_S: Final = 5.0
_OK: Final = 200


def with_health(metrics: WSGIApplication, why_not_ready: Callable[[], str]) -> WSGIApplication:
    """`why_not_ready` is empty when it is ready; it raises TimeoutError when the service's loop stands still."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path not in ("/health", "/ready"):
            return metrics(environ, start_response)
        try:
            reason = why_not_ready()
        except TimeoutError:
            return _say(start_response, "503 Service Unavailable", "its loop does not answer")
        if path == "/ready" and reason:
            return _say(start_response, "503 Service Unavailable", reason)
        return _say(start_response, "200 OK", "ready" if path == "/ready" else "alive")

    return answer


def _say(start_response: StartResponse, status: str, text: str) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [text.encode() + b"\n"]


def ask(url: str, timeout_s: float = _ASK_TIMEOUT_S) -> str:
    """Why it is not well; empty when it is."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout_s)
    try:
        connection.request("GET", parts.path or "/")
        answer = connection.getresponse()
        text = answer.read(1024).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return f"no answer: {error}"
    finally:
        connection.close()
    return "" if answer.status == _OK else f"{answer.status}: {text}"


if __name__ == "__main__":
    reason = ask(sys.argv[1])
    if reason:
        sys.exit(f"{sys.argv[1]}: {reason}")
