from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from shared.health import with_health


def metrics(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [])
    return [b"metrics"]


def get(path: str, why_not_ready: Callable[[], str]) -> tuple[str, str]:
    """Status and text."""
    statuses: list[str] = []

    def start_response(status: str, headers: Any, error: Any = None) -> Any:
        statuses.append(status)

    text = b"".join(with_health(metrics, why_not_ready)({"PATH_INFO": path}, start_response)).decode().strip()
    [status] = statuses
    return status, text


def stands_still() -> str:
    raise TimeoutError


@pytest.mark.parametrize(
    ("path", "why_not_ready", "status", "text"),
    [
        ("/health", lambda: "", "200 OK", "alive"),
        ("/ready", lambda: "", "200 OK", "ready"),
        ("/health", lambda: "no model is loaded yet", "200 OK", "alive"),
        ("/ready", lambda: "no model is loaded yet", "503 Service Unavailable", "no model is loaded yet"),
        ("/health", stands_still, "503 Service Unavailable", "its loop does not answer"),
        ("/ready", stands_still, "503 Service Unavailable", "its loop does not answer"),
        ("/metrics", stands_still, "200 OK", "metrics"),
    ],
)
def test_it_says_how_the_service_is(path: str, why_not_ready: Callable[[], str], status: str, text: str) -> None:
    assert get(path, why_not_ready) == (status, text)
