import pytest

from gateway.http.auth import is_from_here


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "localhost", "[::1]:8000", "127.9.9.9"])
@pytest.mark.parametrize("is_page", [False, True])
def test_programs_of_this_machine_and_our_own_page(host: str, is_page: bool) -> None:
    assert is_from_here(host, f"http://{host}" if is_page else None, "same-origin" if is_page else None)


def test_a_browser_whose_user_asks_or_that_says_little() -> None:
    assert is_from_here("127.0.0.1:8000", None, "none")
    assert is_from_here("127.0.0.1:8000", "http://127.0.0.1:8000", None)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8000", "https://example.org"),
        ("127.0.0.1:8000", "null"),  # a sandboxed page
        ("127.0.0.1:8000", "http://127.0.0.1"),  # another server of this machine
        ("127.0.0.1:8000", "http://localhost:3000"),
        ("127.0.0.1:8000", "http://localhost.example.org"),
        ("rebound.example.org:8000", None),
        ("rebound.example.org:8000", "http://rebound.example.org:8000"),
        ("192.0.2.1:8000", None),
        ("", None),
        ("", ""),
        ("[::1", None),
        ("127.0.0.1:port", None),
    ],
)
def test_pages_of_elsewhere(host: str, origin: str | None) -> None:
    assert not is_from_here(host, origin, None)


@pytest.mark.parametrize("site", ["cross-site", "same-site", "something new"])
def test_pages_that_a_browser_calls_foreign(site: str) -> None:
    assert not is_from_here("127.0.0.1:8000", None, site)
