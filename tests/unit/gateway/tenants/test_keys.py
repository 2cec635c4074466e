from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.tenants.keys import Keys
from shared.api_keys import ApiKey, added, change_keys, hash_of, without

GIVEN = ApiKey(id="given-x", name="x", sha256=hash_of("given"), created=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "api_keys.json"


@pytest.fixture
def heard() -> list[set[str]]:
    return []


@pytest.fixture
def keys(path: Path, heard: list[set[str]]) -> Keys:
    opened = Keys((), path, is_exposed=False, on_change=heard.append)
    opened.load()
    return opened


def adding(name: str) -> Callable[[tuple[ApiKey, ...]], tuple[ApiKey, ...]]:
    key = ApiKey(id=f"key-{name}", name=name, sha256=hash_of(name), created=1)
    return lambda keys: added(keys, key)


def remove(path: Path) -> None:
    path.unlink()


def damage(path: Path) -> None:
    path.write_text("{")


async def test_changes_are_taken_at_the_next_look(keys: Keys, path: Path, heard: list[set[str]]) -> None:
    assert not keys.are_needed and keys.find("a") is None
    change_keys(path, adding("a"))
    await keys.look()
    found = keys.find("a")
    assert found is not None and found.id == "key-a" and keys.are_needed
    change_keys(path, adding("b"))
    change_keys(path, lambda kept: without(kept, "a"))
    await keys.look()
    assert keys.find("a") is None and keys.find("b") is not None
    assert heard == [set(), {"key-a"}, {"key-b"}]


async def test_without_the_last_key_nobody_gets_in_and_without_the_file_all_do(keys: Keys, path: Path) -> None:
    change_keys(path, adding("a"))
    change_keys(path, lambda kept: without(kept, "a"))
    await keys.look()
    assert keys.are_needed and len(keys) == 0
    remove(path)
    await keys.look()
    assert not keys.are_needed


async def test_what_can_not_be_read_changes_nothing(keys: Keys, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    change_keys(path, adding("a"))
    await keys.look()
    damage(path)
    await keys.look()
    assert keys.find("a") is not None
    assert "stay as they were" in caplog.text
    new = path.with_name("new.json")
    change_keys(new, adding("b"))
    new.rename(path)
    await keys.look()
    assert keys.find("a") is None and keys.find("b") is not None


async def test_keys_of_the_configuration_stay(path: Path) -> None:
    keys = Keys((GIVEN,), path, is_exposed=False, on_change=lambda ids: None)
    keys.load()
    assert keys.are_needed and keys.find("given") is not None
    change_keys(path, adding("a"))
    await keys.look()
    assert keys.find("given") is not None and keys.find("a") is not None


def test_other_machines_need_a_key_whatever_there_is(path: Path) -> None:
    assert Keys((), path, is_exposed=True, on_change=lambda ids: None).are_needed
