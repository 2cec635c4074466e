"""What operators changed while a stack ran, kept in its state folder for the next one.

Kept is what differs from the configuration, so that what is configured later is served, too. One stack at a time keeps
changes: it holds a lock for its life, and another one of the same folder runs by its configuration alone.
"""

import contextlib
import fcntl
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Final, Literal

import msgspec
from msgspec.structs import replace

from shared.catalogue import described
from shared.config import ModelSource
from shared.errors import ConfigError, ModelError
from shared.ids import WorkerId
from shared.levels import LevelChange
from shared.messages import Catalogue, CatalogueModel
from shared.private_file import write_private

_log = logging.getLogger(__name__)

_FILE: Final = "changes.json"
_AS_CONFIGURED: Final = LevelChange()


class Changes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    version: Literal[1] = 1
    added: tuple[ModelSource, ...] = ()
    removed: tuple[str, ...] = ()  # of those that are configured
    levels: dict[str, LevelChange] = {}
    pinned: tuple[str, ...] = ()
    drained: tuple[WorkerId, ...] = ()


def changes_of(configured: Sequence[ModelSource], catalogue: Catalogue) -> Changes:
    """What makes the catalogue of the configuration."""
    paths = {source.name: source.path for source in configured}
    served = {model.name for model in catalogue.models}
    return Changes(
        added=tuple(ModelSource(m.name, m.path) for m in catalogue.models if paths.get(m.name) != m.path),
        removed=tuple(name for name in paths if name not in served),
        levels={m.name: m.level for m in catalogue.models if m.level != _AS_CONFIGURED},
        pinned=tuple(m.name for m in catalogue.models if m.pinned),
        drained=catalogue.drained,
    )


def sources(configured: Sequence[ModelSource], changes: Changes) -> tuple[ModelSource, ...]:
    """What is to be served."""
    gone = {*changes.removed, *(source.name for source in changes.added)}
    return (*(source for source in configured if source.name not in gone), *changes.added)


def as_changed(models: Sequence[CatalogueModel], changes: Changes) -> tuple[CatalogueModel, ...]:
    """How it is to be served."""
    return tuple(
        replace(model, level=changes.levels.get(model.name, _AS_CONFIGURED), pinned=model.name in changes.pinned)
        for model in models
    )


class KeptChanges:
    def __init__(self, path: Path | None, changes: Changes) -> None:
        """path: None where nothing is kept."""
        self.changes = changes
        self._path = path

    def served(self, configured: Sequence[ModelSource]) -> tuple[CatalogueModel, ...]:
        """Reads a part of each. Raises ModelError for a configured source that does not exist; others are left out."""
        found: list[CatalogueModel] = []
        for source in sources(configured, self.changes):
            try:
                found += described([source])
            except ModelError as error:
                if source in configured:
                    raise
                _log.error("model %s, which was added before, is not served: %s", source.name, error)
        for name in self.changes.removed:
            _log.warning("model %s is not served, as it was removed; `kottos models add` brings it back", name)
        return as_changed(found, self.changes)

    def keeper(self, configured: Sequence[ModelSource]) -> Callable[[Catalogue], None]:
        """Writes what a catalogue changed. It raises OSError."""

        def keep(catalogue: Catalogue) -> None:
            if self._path is not None:
                changes = changes_of(configured, catalogue)
                write_private(self._path, msgspec.json.format(msgspec.json.encode(changes), indent=1))

        return keep


@contextlib.contextmanager
def kept_changes(state_dir: Path) -> Iterator[KeptChanges]:
    """Of this stack alone until the block is left. Raises ConfigError."""
    with _lock(state_dir) as lock:
        if lock is None:
            _log.warning("%s is another stack's: what changes while this one runs ends with it", state_dir)
            yield KeptChanges(None, Changes())
        else:
            yield KeptChanges(state_dir / _FILE, _read(state_dir / _FILE))


@contextlib.contextmanager
def _lock(state_dir: Path) -> Iterator[IO[str] | None]:
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (state_dir / f".{_FILE}.lock").open("w")
    except OSError as error:
        raise ConfigError(f"state_dir {state_dir}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield file


def _read(path: Path) -> Changes:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Changes)
    except FileNotFoundError:
        return Changes()
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is damaged: {error}; remove it to start as configured") from None
