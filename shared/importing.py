"""Runs importers as child processes: what they do comes as JSON lines, a refusal as their last word."""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from shared.child import dies_with_parent
from shared.errors import ModelError

_PYTHON: Final = (sys.executable, "-P", "-m")
_REASON_BYTES: Final = 4096  # of the end of stderr


Phase = Literal["copy", "tokenizer", "load", "write", "probe"]


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """`done` of `total` units of this phase: bytes in "copy" and "write", steps elsewhere."""

    phase: Phase
    done: int
    total: int
    model: str = ""  # where one process handles several


# Where each phase of an import begins and ends, as shares of the whole, by the time that phases usually take.
_PHASE_SHARES: Final[dict[Phase, tuple[float, float]]] = {
    "copy": (0.0, 0.1),
    "tokenizer": (0.1, 0.3),
    "load": (0.3, 0.6),
    "write": (0.6, 0.9),
    "probe": (0.9, 1.0),
}


def share_done(progress: Progress) -> float:
    """Of the import as a whole."""
    start, end = _PHASE_SHARES[progress.phase]
    return start + (end - start) * min(1.0, progress.done / max(progress.total, 1))


_decoder: Final = msgspec.json.Decoder(Progress)


def import_command(name: str, source: str, cache_dir: Path, dtype: str) -> list[str]:
    """Brings one model into the cache unless it is there."""
    command = [*_PYTHON, "gpu_worker.importer", "--json", "--name", name, "--source", source]
    return [*command, "--cache", str(cache_dir), "--dtype", dtype]


def demo_command(cache_dir: Path) -> list[str]:
    """Brings the demo models into the cache as Hugging Face folders."""
    return [*_PYTHON, "gpu_worker.importer.demo", "--json", "--cache", str(cache_dir)]


async def run_importer(
    command: Sequence[str],
    hear: Callable[[Progress], None],
    *,
    environ: Mapping[str, str] | None = None,
    in_idle_time: bool = False,
) -> None:
    """Passes on its progress; other output is ignored. A cancel ends it, with what it started. In idle time: whoever
    wakes up takes the core from it at once (sched(7), SCHED_IDLE).

    Raises ModelError with its last line on stderr.
    """
    die_with_parent = dies_with_parent()

    def before_exec() -> None:
        die_with_parent()
        os.setpgrp()  # no session of its own: Linux shares cores between sessions first, whatever their policies
        if in_idle_time and sys.platform == "linux":
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))

    process = await asyncio.create_subprocess_exec(
        *command,
        env=environ,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        preexec_fn=before_exec,
    )
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_hear_lines(process, hear))
            reason = group.create_task(_last_line(process))
        status = await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if status < 0:
        raise ModelError(f"an importer was ended by {signal.Signals(-status).name} (SIGKILL: perhaps out of memory)")
    if status > 0:
        raise ModelError(reason.result() or f"an importer ended with status {status}")


async def _hear_lines(process: Process, hear: Callable[[Progress], None]) -> None:
    assert process.stdout is not None
    async for text in process.stdout:
        with contextlib.suppress(msgspec.DecodeError):
            hear(_decoder.decode(text))


async def _last_line(process: Process) -> str:
    assert process.stderr is not None
    tail = b""
    while chunk := await process.stderr.read(_REASON_BYTES):
        tail = (tail + chunk)[-_REASON_BYTES:]
    lines = tail.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
