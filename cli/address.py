"""Where a gateway is, and the API key that it wants."""

import contextlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cli.run_dir import live_run_dirs
from shared.config import API_KEY_VARIABLE
from shared.errors import ConfigError

DEFAULT_URL: Final = "http://127.0.0.1:8000"
_URL_FILE: Final = "gateway.url"  # in a stack's run folder, once it serves


@dataclass(frozen=True, slots=True)
class Address:
    url: str  # without a slash at its end
    api_key: str = field(default="", repr=False)  # empty: none


def find_address(url: str | None, api_key_file: Path | None, environ: Mapping[str, str] = os.environ) -> Address:
    """What is given, else the stack that runs here, else the default port. Raises ConfigError."""
    key = _read_key(api_key_file) if api_key_file else environ.get(API_KEY_VARIABLE, "").strip()
    if not key.isascii() or not key.isprintable():
        raise ConfigError("the API key has characters that no API key has")
    return Address(_checked(url or _local_url() or DEFAULT_URL), key)


def write_url(run_dir: Path, url: str) -> None:
    """For `find_address` of this user's commands."""
    (run_dir / _URL_FILE).write_text(url)


def _local_url() -> str:
    """Of the only stack that runs here; empty: none does, or several do."""
    urls = []
    for folder in live_run_dirs(Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError):
            urls.append((folder / _URL_FILE).read_text())
    return urls[0] if len(urls) == 1 else ""


def _checked(url: str) -> str:
    """As clients of OpenAI write it, too: with /v1 at its end."""
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ConfigError(f"--url {url}: expected an address like {DEFAULT_URL}")
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def _read_key(path: Path) -> str:
    try:
        key = path.expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(f"--api-key-file {path} can't be read: {reason}") from error
    if not key:
        raise ConfigError(f"--api-key-file {path} is empty")
    return key
