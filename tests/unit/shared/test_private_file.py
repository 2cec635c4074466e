from pathlib import Path

import pytest

from shared.private_file import write_private


def test_a_file_is_its_users_alone_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    write_private(path, b"first")
    with path.open("rb") as reader:
        write_private(path, b"second")
        assert reader.read() == b"first"
    assert path.read_bytes() == b"second"
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert list(path.parent.iterdir()) == [path]


def test_what_can_not_be_written_leaves_the_former_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_private(path, b"first")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_private(path, b"second")
    assert path.read_bytes() == b"first" and list(tmp_path.iterdir()) == [path]
