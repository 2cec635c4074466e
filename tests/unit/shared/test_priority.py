import os
from pathlib import Path

import pytest

from shared.priority import others_first


@pytest.fixture
def leads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getsid", lambda pid: os.getpid())


@pytest.mark.usefixtures("leads")
def test_its_session_is_nice_within_and_as_before_afterwards(tmp_path: Path) -> None:
    autogroup = tmp_path / "autogroup"
    autogroup.write_text("")
    with pytest.raises(ValueError, match="unreadable"), others_first(autogroup):
        assert autogroup.read_text() == "10\n"
        raise ValueError("unreadable")
    assert autogroup.read_text().startswith("0\n")


def test_a_session_of_others_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getsid", lambda pid: os.getpid() + 1)
    autogroup = tmp_path / "autogroup"
    autogroup.write_text("")
    with others_first(autogroup):
        assert autogroup.read_text() == ""


@pytest.mark.usefixtures("leads")
def test_without_such_a_feature_nothing_happens(tmp_path: Path) -> None:
    autogroup = tmp_path / "autogroup"
    with others_first(autogroup):
        assert not autogroup.exists()
    assert not autogroup.exists()
