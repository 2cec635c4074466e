"""Options that several commands have."""

from pathlib import Path
from typing import Annotated, Final

import typer

from shared.config import API_KEY_VARIABLE, URL_VARIABLE

URL_HELP: Final = "The gateway's address. Default: that of the only stack that runs here, else http://127.0.0.1:8000."

Url = Annotated[str | None, typer.Option("--url", metavar="URL", envvar=URL_VARIABLE, help=URL_HELP)]
ApiKeyFile = Annotated[
    Path | None,
    typer.Option("--api-key-file", help=f"A file that has the API key and nothing else. Else: {API_KEY_VARIABLE}."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and no progress.")]
