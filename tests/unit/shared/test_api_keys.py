import hashlib
from pathlib import Path

import pytest

from shared.api_keys import (
    MAX_KEYS,
    ApiKey,
    added,
    change_keys,
    given_keys,
    hash_of,
    key_file,
    new_key,
    new_key_id,
    read_keys,
    without,
)
from shared.config import Config, KeysConfig
from shared.errors import ConfigError, KottosError

SECRET = "hunter2-hunter2-hunter2"


def made(name: str, **limits: object) -> ApiKey:
    return ApiKey(id=f"key-{name}", name=name, sha256=hash_of(name), created=1, **limits)  # type: ignore[arg-type]


def test_keys_are_new_each_time_and_have_256_random_bits() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100 == len({new_key_id() for _ in range(100)})
    assert all(key.startswith("sk-kottos-") and len(key) == len("sk-kottos-") + 43 for key in keys)
    assert hash_of("abc") == hashlib.sha256(b"abc").hexdigest()
    assert hash_of("\udcff")  # a byte that is no UTF-8, as an HTTP server passes it on


def test_the_file_keeps_what_is_known_and_not_the_key(tmp_path: Path) -> None:
    path = tmp_path / "state" / "api_keys.json"
    assert read_keys(path) is None
    key = new_key()
    full = ApiKey(
        id="key-1", name="team é", sha256=hash_of(key), created=5, is_admin=True, models=("a", "b"),
        requests_per_minute=1, tokens_per_minute=2, concurrency=3, priority=-4,
    )  # fmt: skip
    change_keys(path, lambda keys: added(keys, full))
    change_keys(path, lambda keys: added(keys, made("other")))
    assert read_keys(path) == (full, made("other"))
    assert key not in path.read_text() and path.stat().st_mode & 0o777 == 0o600
    change_keys(path, lambda keys: without(without(keys, "key-1"), "other"))
    assert read_keys(path) == ()


def test_names_are_told_apart_and_bounded() -> None:
    keys = (made("a"),)
    for clash in ("a", "key-a"):
        with pytest.raises(KottosError, match="already"):
            added(keys, made(clash))
    with pytest.raises(KottosError, match="printable"):
        added(keys, made("two\nlines"))
    with pytest.raises(KottosError, match=str(MAX_KEYS)):
        added(tuple(made(str(number)) for number in range(MAX_KEYS)), made("one more"))
    with pytest.raises(KottosError, match="no key 'b'"):
        without(keys, "b")


def test_a_refused_change_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "api_keys.json"
    change_keys(path, lambda keys: added(keys, made("a")))
    before = path.read_bytes()
    with pytest.raises(KottosError):
        change_keys(path, lambda keys: without(keys, "b"))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"version": 2, "keys": []}',
        '{"version": 1, "keys": [{"name": "a"}]}',
        '{"version":1,"keys":[],"x":1}',
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "api_keys.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"api_keys\.json is damaged"):
        read_keys(path)


def test_a_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "api_keys.json"
    change_keys(path, lambda keys: added(keys, made("a")))
    path.chmod(0o620)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_keys(path)


def test_the_file_lies_in_the_state_folder_or_where_it_is_said(tmp_path: Path) -> None:
    assert key_file(Config(state_dir=tmp_path)) == tmp_path / "api_keys.json"
    assert key_file(Config(state_dir=tmp_path, keys=KeysConfig(file="/else/where"))) == Path("/else/where")


def test_keys_of_the_configuration() -> None:
    found = given_keys(Config(keys=KeysConfig(api=f"a={SECRET}=; b={SECRET}1 ;", admin=f"{SECRET}2")))
    assert [(key.name, key.sha256, key.is_admin) for key in found] == [
        ("a", hash_of(f"{SECRET}="), False),
        ("b", hash_of(f"{SECRET}1"), False),
        ("admin", hash_of(f"{SECRET}2"), True),
    ]
    assert len({key.id for key in found}) == 3
    assert given_keys(Config()) == ()


@pytest.mark.parametrize(
    ("api", "admin", "says"),
    [
        (SECRET, "", r"keys\.api: expected NAME=KEY"),
        (f"={SECRET}", "", r"keys\.api: expected NAME=KEY"),
        ("a=hunter2", "", "'a' has less than 20"),
        ("", "hunter2", r"keys\.admin.* less than 20"),
        (f"a={SECRET};a={SECRET}1", "", "given twice"),
        (f"admin={SECRET}", f"{SECRET}1", "admin"),
    ],
)
def test_a_bad_configuration_is_refused_without_repeating_a_key(api: str, admin: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        given_keys(Config(keys=KeysConfig(api=api, admin=admin)))
    assert "hunter2" not in str(caught.value)
