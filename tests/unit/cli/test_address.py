import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from cli.address import DEFAULT_URL, find_address, write_url
from cli.run_dir import run_dir
from shared.config import API_KEY_VARIABLE, load_config
from shared.errors import ConfigError


@pytest.fixture
def temp(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No stack but those of the test runs here."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@contextmanager
def serving(url: str) -> Iterator[None]:
    with run_dir() as folder:
        write_url(folder, url)
        yield


def url_of(given: str | None = None) -> str:
    return find_address(given, None, {}).url


def test_it_is_what_is_given_else_the_only_stack_here_else_the_default(temp: Path) -> None:
    assert url_of() == DEFAULT_URL
    with serving("http://127.0.0.1:9000"):
        assert url_of() == "http://127.0.0.1:9000"
        assert url_of("http://other:1") == "http://other:1"
        with serving("http://127.0.0.1:9001"):
            assert url_of() == DEFAULT_URL
    assert url_of() == DEFAULT_URL


def test_a_stack_that_does_not_serve_yet_is_none(temp: Path) -> None:
    with ExitStack() as stack:
        stack.enter_context(run_dir())
        assert url_of() == DEFAULT_URL


def test_a_dead_stack_is_none(temp: Path) -> None:
    folder = temp / "kottos-run-dead"
    folder.mkdir()
    write_url(folder, "http://127.0.0.1:9000")
    with (folder / "supervisor.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert url_of() == "http://127.0.0.1:9000"
    assert url_of() == DEFAULT_URL


def test_it_may_be_written_as_for_clients_of_openai() -> None:
    for given in ("https://host:8/", "https://host:8/v1", "https://host:8/v1/"):
        assert url_of(given) == "https://host:8"


@pytest.mark.parametrize("url", ["host:8000", "ftp://host", "http://", "http://host:x", "http://[", "http://host:0"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="--url"):
        url_of(url)


def test_the_key_comes_from_a_file_or_the_environment_and_shows_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-file\n")
    environ = {API_KEY_VARIABLE: "sk-environment"}
    assert find_address("http://a", None, environ).api_key == "sk-environment"
    address = find_address("http://a", file, environ)
    assert address.api_key == "sk-file" and "sk-file" not in repr(address)


@pytest.mark.parametrize("content", [b"", b" \n", b"two\nlines", "é".encode(), b"\xff"])
def test_what_is_no_key_is_refused_and_not_repeated(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        find_address("http://a", file, {})
    assert "lines" not in str(refused.value)


def test_a_key_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        find_address("http://a", tmp_path / "none", {})


def test_variables_of_clients_are_no_settings_and_refuse_no_start() -> None:
    assert load_config(environ={API_KEY_VARIABLE: "sk", "KOTTOS_URL": "http://a"}) == load_config(environ={})
