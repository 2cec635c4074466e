"""API keys: what is known of each one, and the file that keeps them.

A key is 256 random bits, so that nobody can guess from its SHA-256: a slow hash, as passwords need, would add nothing
but its time to every request. Keys themselves are shown once, when they are made, and kept nowhere.
"""

import fcntl
import hashlib
import os
import reprlib
import secrets
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from shared.config import Config
from shared.errors import ConfigError, KottosError
from shared.private_file import write_private
from shared.slo import Priority

MAX_KEYS: Final = 4096
MAX_NAME_CHARS: Final = 64
MIN_GIVEN_CHARS: Final = 20  # of a key that somebody thought up
_PREFIX: Final = "sk-kottos-"  # by which scanners of leaked secrets can tell it
_WRITABLE_BY_OTHERS: Final = 0o022

Limit = Annotated[int, Meta(ge=1, le=1 << 40)]


class ApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """None: no limit."""

    id: Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS)]  # names the tenant, and tells nothing of the key
    name: Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS)]
    sha256: Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    created: int  # Unix time
    is_admin: bool = False
    models: tuple[str, ...] | None = None
    requests_per_minute: Limit | None = None
    tokens_per_minute: Limit | None = None  # of prompts and outputs
    concurrency: Limit | None = None  # sequences in flight
    priority: Priority | None = None  # the most urgent that its requests may have, and what they have by default


class _KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Literal[1]
    keys: tuple[ApiKey, ...]


def new_key() -> str:
    return _PREFIX + secrets.token_urlsafe(32)


def new_key_id() -> str:
    return f"key-{secrets.token_hex(6)}"


def hash_of(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()  # a header's bytes may be no UTF-8


# --- the file -----------------------------------------------------------------------------------


def key_file(config: Config) -> Path:
    return Path(config.keys.file).expanduser() if config.keys.file else config.state_dir.expanduser() / "api_keys.json"


def read_keys(path: Path) -> tuple[ApiKey, ...] | None:
    """None: there is no file. Raises ConfigError, which repeats nothing of the content."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & _WRITABLE_BY_OTHERS:
                raise ConfigError(f"{path}: others may write it, and so let themselves in: chmod 600 it")
            data = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from error
    try:
        return msgspec.json.decode(data, type=_KeyFile).keys
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is damaged: {error}") from None


def change_keys(path: Path, change: Callable[[tuple[ApiKey, ...]], Iterable[ApiKey]]) -> None:
    """One writer at a time. Raises KottosError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.with_name(f".{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            keys = tuple(change(read_keys(path) or ()))
            write_private(path, msgspec.json.format(msgspec.json.encode(_KeyFile(1, keys)), indent=1))
    except OSError as error:
        raise KottosError(f"{path} can't be written: {error.strerror}") from error


def added(keys: tuple[ApiKey, ...], key: ApiKey) -> tuple[ApiKey, ...]:
    """Raises KottosError."""
    if not key.name.isprintable() or key.name != key.name.strip():
        raise KottosError("a key's name must be printable, without outer spaces")
    if any(key.name in (other.name, other.id) for other in keys):
        raise KottosError(f"there is a key {key.name!r} already: revoke it first, or choose another name")
    if len(keys) >= MAX_KEYS:
        raise KottosError(f"there are {len(keys)} keys, and no more than {MAX_KEYS} can be")
    return (*keys, key)


def without(keys: tuple[ApiKey, ...], name_or_id: str) -> tuple[ApiKey, ...]:
    """Raises KottosError."""
    staying = tuple(key for key in keys if name_or_id not in (key.id, key.name))
    if len(staying) == len(keys):
        raise KottosError(f"there is no key {name_or_id!r}")
    return staying


# --- the configuration --------------------------------------------------------------------------


def given_keys(config: Config) -> tuple[ApiKey, ...]:
    """Those of `keys.api` and `keys.admin`, without limits. Raises ConfigError, which repeats no key."""
    found = [_given("keys.api", *_named(text)) for text in filter(str.strip, config.keys.api.split(";"))]
    if config.keys.admin:
        found.append(_given("keys.admin", "admin", config.keys.admin, is_admin=True))
    if len({key.name for key in found}) < len(found):
        raise ConfigError("keys.api: a name is given twice, or is admin")
    return tuple(found)


def _named(text: str) -> tuple[str, str]:
    name, equals, key = text.partition("=")
    if not equals or not 1 <= len(name.strip()) <= MAX_NAME_CHARS - len("given-") or not name.isprintable():
        raise ConfigError("keys.api: expected NAME=KEY;NAME=KEY")
    return name.strip(), key


def _given(setting: str, name: str, key: str, *, is_admin: bool = False) -> ApiKey:
    key = key.strip()
    if len(key) < MIN_GIVEN_CHARS:
        raise ConfigError(f"{setting}: the key of {reprlib.repr(name)} has less than {MIN_GIVEN_CHARS} characters")
    return ApiKey(id=f"given-{name}", name=name, sha256=hash_of(key), created=int(time.time()), is_admin=is_admin)
