from pathlib import Path

import pytest

from gateway.text.priority import others_first


def test_its_session_is_nice_within_and_as_before_afterwards(tmp_path: Path) -> None:
    autogroup = tmp_path / "autogroup"
    autogroup.write_text("")
    with pytest.raises(ValueError, match="unreadable"), others_first(autogroup):
        assert autogroup.read_text() == "10\n"
        raise ValueError("unreadable")
    assert autogroup.read_text().startswith("0\n")


def test_without_such_a_feature_nothing_happens(tmp_path: Path) -> None:
    autogroup = tmp_path / "autogroup"
    with others_first(autogroup):
        assert not autogroup.exists()
    assert not autogroup.exists()
