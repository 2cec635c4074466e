from pathlib import Path

import pytest

from shared.config import load_config
from shared.errors import ConfigError
from shared.secret_files import with_secret_files

SECRET = "not-for-any-log"


def test_a_secret_comes_from_the_file_that_a_variable_names(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(f"{SECRET}\n")
    environ = {"KOTTOS_BUS_PASSWORD_FILE": str(tmp_path / "password"), "KOTTOS_BUS_USER": "router", "HOME": "/"}
    config = load_config(environ=environ)
    assert (config.bus.user, config.bus.password) == ("router", SECRET)
    read = with_secret_files(environ, ["KOTTOS_BUS_PASSWORD"])
    assert read == {"KOTTOS_BUS_PASSWORD": SECRET, "KOTTOS_BUS_USER": "router", "HOME": "/"}


def test_an_empty_variable_is_not_set() -> None:
    assert with_secret_files({"A_FILE": "", "A": "x"}, ["A"]) == {"A": "x"}


def test_what_can_be_no_file_is_no_setting() -> None:
    with pytest.raises(ConfigError, match="KOTTOS_GATEWAY_PORT_FILE: there is no such key"):
        load_config(environ={"KOTTOS_GATEWAY_PORT_FILE": "/port"})


@pytest.mark.parametrize(
    ("content", "others", "reason"),
    [
        (SECRET.encode(), {"KOTTOS_KEYS_ADMIN": SECRET}, "KOTTOS_KEYS_ADMIN is given, too"),
        (b" \n", {}, "is empty"),
        (b"\xff" + SECRET.encode(), {}, "is no text"),
        (None, {}, "can't be read: No such file or directory"),
    ],
)
def test_a_refusal_says_why_and_repeats_no_secret(
    content: bytes | None, others: dict[str, str], reason: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    with pytest.raises(ConfigError, match=f"KOTTOS_KEYS_ADMIN_FILE: .*{reason}") as caught:
        load_config(environ={"KOTTOS_KEYS_ADMIN_FILE": str(tmp_path / "key"), **others})
    assert SECRET not in str(caught.value)
