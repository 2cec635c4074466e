"""Checksums of a finished folder, so that damage shows at a start. Sizes are checked always, contents once."""

import hashlib
from pathlib import Path
from typing import Final

import msgspec

_SEAL: Final = "checksums.json"
_CHECKED: Final = ".checked"  # the contents were compared; without it the next start compares them again


class _File(msgspec.Struct, frozen=True):
    size: int
    sha256: str


_decoder: Final = msgspec.json.Decoder(dict[str, _File])


def seal(folder: Path) -> None:
    """Last act before publishing. The files are read back, so it counts as the first check."""
    files = {file.name: _File(file.stat().st_size, _sha256(file)) for file in sorted(folder.iterdir())}
    (folder / _SEAL).write_bytes(msgspec.json.format(msgspec.json.encode(files)))
    (folder / _CHECKED).touch()


def is_intact(folder: Path) -> bool:
    """False for an absent folder, too."""
    try:
        files = _decoder.decode((folder / _SEAL).read_bytes())
        if any((folder / name).stat().st_size != file.size for name, file in files.items()):
            return False
        if not (folder / _CHECKED).exists():
            if any(_sha256(folder / name) != file.sha256 for name, file in files.items()):
                return False
            (folder / _CHECKED).touch()
    except (FileNotFoundError, msgspec.DecodeError):
        return False
    return True


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
