"""`kottos serve` as a process, as its users run it."""

import os
import signal
import subprocess
import sysconfig
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from shared.catalogue import demo_models
from shared.config import load_config

_KOTTOS: Final = Path(sysconfig.get_path("scripts")) / "kottos"
_START_TIMEOUT_S: Final = 240.0  # models may have to be imported first
_STOP_TIMEOUT_S: Final = 30.0
_NO_SETTINGS: Final[Mapping[str, str]] = {}


class Served(NamedTuple):
    url: str
    client_env: Path  # how internal services reach the bus
    pid: int  # of the supervisor, whose children are the services


@contextmanager
def serve(*flags: str, log_path: Path, settings: Mapping[str, str] = _NO_SETTINGS) -> Iterator[Served]:
    """On a free port, every model loaded; `settings` are variables. Raises RuntimeError when it does not start."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("KOTTOS_")}
    environ["KOTTOS_STATE_DIR"] = str(log_path.absolute().with_name(f"{log_path.name}.state"))
    environ |= {name: os.environ[name] for name in ("KOTTOS_CACHE",) if name in os.environ} | dict(settings)
    command = [str(_KOTTOS), "serve", "--port", "0", *flags]
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=log, text=True)
    limit = threading.Timer(_START_TIMEOUT_S, process.kill)
    limit.start()
    try:
        assert process.stdout is not None
        served = _parse_banner(process.stdout, process.pid)
        if served is None:
            raise RuntimeError(f"kottos serve did not start:\n{log_path.read_text(errors='replace')[-4000:]}")
        limit.cancel()
        yield served
    finally:
        limit.cancel()
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def serve_demo(model: str, num_threads: int) -> Iterator[Served]:
    """One of the demo models, whose steps have so many threads. Raises as `serve`."""
    source = next(source for source in demo_models(load_config().cache_dir) if source.name == model)
    settings = {"KOTTOS_WORKER_NUM_THREADS": str(num_threads)}
    with (
        tempfile.TemporaryDirectory() as temp,
        serve("--model", f"{source.name}={source.path}", log_path=Path(temp) / "log", settings=settings) as served,
    ):
        yield served


def _parse_banner(lines: Iterable[str], pid: int) -> Served | None:
    """None: it ended before the banner did."""
    url, client_env = "", Path()
    for line in lines:
        words = line.split()
        if line.startswith("Kottos serves at "):
            url = words[-1]
        elif line.startswith("Internal services "):
            client_env = Path(words[-1])
        elif line.startswith("Ctrl-C "):
            return Served(url, client_env, pid)
    return None
