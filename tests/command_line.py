"""`kottos` within a test: in a thread, as starting a process costs more than most commands."""

import asyncio
import io
import os
import sys
import threading
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, Final, NamedTuple
from unittest.mock import patch

import msgspec

from cli.main import main

_one_at_a_time: Final = threading.Lock()  # standard output is the process's


class Ended(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.out)


async def kottos(*arguments: str, stdin: str = "", environ: dict[str, str] | None = None) -> Ended:
    """To its end; standard output is no terminal."""
    return await asyncio.to_thread(_run, arguments, stdin, environ or {})


def _run(arguments: tuple[str, ...], stdin: str, environ: dict[str, str]) -> Ended:
    out, err = io.StringIO(), io.StringIO()
    with (
        _one_at_a_time,
        patch.dict(os.environ, environ),
        patch.object(sys, "stdin", io.StringIO(stdin)),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main(arguments)
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Ended(code, out.getvalue(), err.getvalue())
