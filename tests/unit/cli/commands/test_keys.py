import json
from pathlib import Path

import pytest

from cli.main import main
from shared.api_keys import ApiKey, hash_of, read_keys


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("KOTTOS_STATE_DIR", str(tmp_path))
    return tmp_path / "api_keys.json"


class Kottos:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.errors = ""

    def __call__(self, *arguments: str, status: int = 0) -> str:
        """What it prints."""
        self._monkeypatch.setattr("sys.argv", ["kottos", "keys", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        said = self._capsys.readouterr()
        self.errors = said.err
        assert caught.value.code == status, said.err
        return said.out


@pytest.fixture
def kottos(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Kottos:
    return Kottos(monkeypatch, capsys)


def kept(path: Path) -> tuple[ApiKey, ...]:
    keys = read_keys(path)
    assert keys is not None
    return keys


def test_a_key_is_printed_alone_and_kept_as_its_hash(kottos: Kottos, path: Path) -> None:
    printed = kottos("create", "--name", "team-a")
    [key] = kept(path)
    assert printed.count("\n") == 1 and hash_of(printed.strip()) == key.sha256
    assert (key.name, key.is_admin, key.models, key.requests_per_minute) == ("team-a", False, None, None)
    assert key.id in kottos.errors and printed.strip() not in kottos.errors


def test_every_option_is_kept_and_listed(kottos: Kottos, path: Path) -> None:
    limits = "--requests-per-minute 600 --tokens-per-minute 100000 --concurrency 16 --priority -1"
    arguments = f"--name a --models m --models org/n {limits} --admin --json"
    made = json.loads(kottos("create", *arguments.split()))
    [key] = kept(path)
    assert made == {"id": key.id, "name": "a", "key": made["key"]} and hash_of(made["key"]) == key.sha256
    [shown] = json.loads(kottos("list", "--json"))
    assert shown == {
        "id": key.id, "name": "a", "created": key.created, "is_admin": True, "models": ["m", "org/n"],
        "requests_per_minute": 600, "tokens_per_minute": 100_000, "concurrency": 16, "priority": -1,
    }  # fmt: skip
    table = kottos("list")
    assert key.id in table and "a (admin)" in table and key.sha256 not in table


def test_revoking_by_name_and_by_id(kottos: Kottos, path: Path) -> None:
    for name in "abc":
        kottos("create", "--name", name)
    ids = {key.name: key.id for key in kept(path)}
    assert kottos("revoke", "a", ids["b"]).splitlines() == ["a is revoked", f"{ids['b']} is revoked"]
    assert [key.name for key in kept(path)] == ["c"] and kottos.errors == ""
    kottos("revoke", "c")
    assert str(path) in kottos.errors  # nobody gets in now, and how to open it


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ("create --name a", 1, "already"),
        ("revoke b", 1, "no key 'b'"),
        ("create --name b --requests-per-minute 0", 2, "--requests-per-minute 0"),
        ("create --name b --priority 2000", 2, "--priority 2000"),
    ],
)
def test_refusals_change_nothing(kottos: Kottos, path: Path, arguments: str, status: int, says: str) -> None:
    kottos("create", "--name", "a")
    before = path.read_bytes()
    kottos(*arguments.split(), status=status)
    assert says in kottos.errors and path.read_bytes() == before


def test_nothing_was_ever_made(kottos: Kottos, path: Path) -> None:
    assert json.loads(kottos("list", "--json")) == []
    assert not path.exists()
