"""Files that only their user may read, replaced whole: a reader sees the former content or the new one."""

import os
import tempfile
from pathlib import Path
from typing import Final

_PRIVATE: Final = 0o700  # of folders that are made on the way; tempfile makes files 0600


def write_private(path: Path, data: bytes) -> None:
    """Outlives a crash of the machine once it returns. Raises OSError."""
    path.parent.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
