"""`kottos version`: what runs here, without importing any of it."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Final

import msgspec

from cli.broker import nats_program
from shared.machine import cpu_name, num_cores

_NVIDIA: Final = Path("proc/driver/nvidia")  # of a machine with its driver
_TIMEOUT_S: Final = 5.0


class Versions(msgspec.Struct, frozen=True):
    """Null: not installed."""

    kottos: str | None
    python: str
    torch: str | None
    transformers: str | None
    nats_server: str | None
    devices: list[str]  # accelerators, else the CPU


def kottos_version() -> str:
    return importlib.metadata.version("kottos")


def versions() -> Versions:
    return Versions(
        _installed("kottos"),
        platform.python_version(),
        _installed("torch"),
        _installed("transformers"),
        _nats_server(),
        devices(),
    )


def devices(root: Path = Path("/")) -> list[str]:
    accelerators = []
    for about in sorted((root / _NVIDIA / "gpus").glob("*/information")):
        fields = dict(line.split(":", 1) for line in about.read_text().splitlines() if ":" in line)
        accelerators.append(fields.get("Model", "NVIDIA").strip())
    return accelerators or [f"{cpu_name(root)}, {num_cores(root)} cores"]


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _nats_server() -> str | None:
    """That which `kottos serve` would start."""
    program = nats_program()
    if program is None:
        return None
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.split()[-1].removeprefix("v")
