"""What a shell completes: names that a gateway knows, where it answers at once."""

import json
import os
from pathlib import Path
from typing import Final

import typer

from shared.config import URL_VARIABLE
from shared.errors import KottosError

_TIMEOUT_S: Final = 0.5


def model_names(context: typer.Context, incomplete: str) -> list[str]:
    return [name for name in _ids(context, "/v1/models") if name.startswith(incomplete)]


def worker_names(context: typer.Context, incomplete: str) -> list[str]:
    return [name for name in _ids(context, "/admin/workers") if name.startswith(incomplete)]


def _ids(context: typer.Context, path: str) -> list[str]:
    """Empty for whatever reason: a shell that completes shows no errors."""
    import urllib.request  # slow to import

    from cli.address import find_address

    given_url, key_file = context.params.get("url"), context.params.get("api_key_file")
    try:
        address = find_address(given_url or os.environ.get(URL_VARIABLE), Path(key_file) if key_file else None)
        headers = {"Authorization": f"Bearer {address.api_key}"} if address.api_key else {}
        asked = urllib.request.Request(address.url + path, headers=headers)
        with urllib.request.urlopen(asked, timeout=_TIMEOUT_S) as answer:
            return [each["id"] for each in json.load(answer)["data"]]
    except (KottosError, OSError, ValueError, KeyError, TypeError):
        return []
