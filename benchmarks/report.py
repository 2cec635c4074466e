"""What every benchmark prints and keeps: the circumstances, and raw results as JSON."""

import json
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import torch
import transformers

from shared.machine import cpu_name, memory_limit_bytes, num_cores

RESULTS: Final = Path(__file__).parent / "results"


def circumstances() -> dict[str, str | int]:
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "--short", "HEAD") + ("+changes" if _git("status", "--porcelain", "-uno") else ""),
        "command": " ".join(["python", "-m", _module(), *sys.argv[1:]]),
        "cpu": cpu_name(),
        "cores": num_cores(),
        "memory_gib": memory_limit_bytes() >> 30,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def save(name: str, results: object) -> Path:
    """Writes benchmarks/results/<name>.json."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"circumstances": circumstances(), "results": results}, indent=1) + "\n")
    return path


def save_text(file_name: str, text: str) -> Path:
    """Writes benchmarks/results/<file_name>."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / file_name
    path.write_text(text)
    return path


def _module() -> str:
    path = Path(sys.argv[0])
    return f"benchmarks.{path.parent.name if path.stem == '__main__' else path.stem}"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, cwd=Path(__file__).parent)
    return done.stdout.strip() if done.returncode == 0 else "unknown"
