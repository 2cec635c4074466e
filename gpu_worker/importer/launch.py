"""Starts imports as child processes: torch's loaders must not share an interpreter with the token loop."""

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from gpu_worker.importer.progress import Progress
from shared.catalogue import PLAIN_LAYOUT, ModelEntry, is_imported
from shared.child import dies_with_parent
from shared.errors import ModelError

_NICENESS: Final = 10
_REASON_BYTES: Final = 4096  # of stderr's end

_decoder: Final = msgspec.json.Decoder(Progress)


async def ensure_imported(
    entry: ModelEntry, dtype: str, cache_dir: Path, on_progress: Callable[[Progress], None] | None = None
) -> None:
    """Returns when the model is in the cache. Raises ModelError with the reason. A cancel ends the child."""
    if is_imported(entry, PLAIN_LAYOUT, dtype):
        return
    command = [sys.executable, "-P", "-m", "gpu_worker.importer", "--json"]
    command += ["--name", entry.name, "--source", entry.source]
    command += ["--cache", str(cache_dir), "--dtype", dtype]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, preexec_fn=_before_exec()
    )
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_follow(process, on_progress or (lambda progress: None)))
            reason = group.create_task(_last_line(process))
        status = await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if status < 0:
        raise ModelError(f"{entry.name}: its import was ended by signal {-status} (9: perhaps out of memory)")
    if status > 0:
        raise ModelError(reason.result() or f"{entry.name}: its import failed with status {status}")


def _before_exec() -> Callable[[], None]:
    die_with_parent = dies_with_parent()

    def before_exec() -> None:
        die_with_parent()
        os.nice(_NICENESS)

    return before_exec


async def _follow(process: Process, on_progress: Callable[[Progress], None]) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        on_progress(_decoder.decode(line))


async def _last_line(process: Process) -> str:
    assert process.stderr is not None
    tail = b""
    while chunk := await process.stderr.read(_REASON_BYTES):
        tail = (tail + chunk)[-_REASON_BYTES:]
    lines = tail.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
