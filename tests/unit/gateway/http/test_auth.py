import pytest

from gateway.http.auth import is_from_here


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "localhost", "[::1]:8000", "127.9.9.9"])
@pytest.mark.parametrize("origin", [None, "http://localhost:3000", "http://127.0.0.1"])
def test_programs_and_pages_of_this_machine(host: str, origin: str | None) -> None:
    assert is_from_here(host, origin)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8000", "https://example.org"),
        ("127.0.0.1:8000", "null"),  # a sandboxed page
        ("127.0.0.1:8000", "http://localhost.example.org"),
        ("rebound.example.org:8000", None),
        ("rebound.example.org:8000", "http://rebound.example.org:8000"),
        ("192.0.2.1:8000", None),
        ("", None),
        ("[::1", None),
        ("127.0.0.1:port", None),
    ],
)
def test_pages_of_elsewhere(host: str, origin: str | None) -> None:
    assert not is_from_here(host, origin)
