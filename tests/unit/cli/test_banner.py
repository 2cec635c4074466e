import json
import shlex
from pathlib import Path

import pytest

from cli.banner import ShownModel, banner, base_url, curl_line

URL = "http://127.0.0.1:8000"
CHAT = ShownModel('it\'s/a "chat" $(model)', "cached", has_chat_template=True)
BASE = ShownModel("base", "resident", has_chat_template=False)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
        ("example.org", "http://example.org:80"),
    ],
)
def test_the_url_works_on_this_machine(host: str, url: str) -> None:
    assert base_url(host, 80) == url


def test_the_request_survives_a_shell() -> None:
    program, url, _, header, _, body = shlex.split(curl_line(URL, CHAT))
    assert (program, url, header) == ("curl", f"{URL}/v1/chat/completions", "Content-Type: application/json")
    assert json.loads(body)["model"] == CHAT.name and json.loads(body)["messages"][0]["role"] == "user"


def test_a_base_model_gets_a_completion() -> None:
    words = shlex.split(curl_line(URL, BASE))
    assert words[1] == f"{URL}/v1/completions" and json.loads(words[-1])["prompt"]


def test_the_banner_names_url_models_and_states_and_prefers_a_chat_model_that_is_there() -> None:
    text = banner(URL, [ShownModel("later", "loading", True), BASE, CHAT])
    assert URL in text.splitlines()[0]
    assert "base" in text and "resident" in text and "loading" in text
    assert curl_line(URL, CHAT) in text.splitlines()
    assert text.splitlines()[-3].endswith(f" {URL}/metrics/targets")
    assert curl_line(URL, BASE) in banner(URL, [ShownModel("later", "loading", True), BASE]).splitlines()


def test_the_banner_says_how_to_reach_the_embedded_bus() -> None:
    [line] = [line for line in banner(URL, [BASE], Path("/tmp/run/client.env")).splitlines() if "bus" in line]
    assert line.endswith(" /tmp/run/client.env")
    assert "bus" not in banner(URL, [BASE])


def test_with_keys_the_request_takes_one_from_the_shell() -> None:
    line = curl_line(URL, CHAT, needs_key=True)
    assert ' -H "Authorization: Bearer $KEY" ' in line  # not in single quotes, where a shell would leave it
    words = shlex.split(line)
    assert words.count("-H") == 2 and json.loads(words[-1])["model"] == CHAT.name
    text = banner(URL, [CHAT], needs_key=True)
    assert line in text.splitlines() and "Without API keys" not in text
    assert "Without API keys" in banner(URL, [CHAT])
