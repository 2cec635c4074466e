"""`kottos models list|add|remove`, on a stack that runs."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from cli.client_env import OPERATOR_ENV, read_env
from cli.operator import ModelStatus, Operator, Report
from cli.run_dir import live_run_dirs
from shared.bus import NatsBus
from shared.config import BusConfig, ModelSource, load_config
from shared.errors import ConfigError, KottosError
from shared.ids import ModelName

T = TypeVar("T")
_TIMEOUT_S: Final = 1800.0  # an import may have to download, and to wait for another one

models = typer.Typer(help="List, add and remove models of a running stack.", no_args_is_help=True)

EnvFile = Annotated[
    Path | None,
    typer.Option("--env", help="The operator.env of the stack's run folder; by default that of the only one here."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and no progress.")]
Timeout = Annotated[float, typer.Option(metavar="SECONDS", help="How long to wait until it is done.")]


@models.command("list")
def list_models(env: EnvFile = None, as_json: AsJson = False) -> None:
    """The models that are served, and their states on the workers."""
    found = _run(env, lambda operator: operator.listed(), _TIMEOUT_S)
    if as_json:
        print(msgspec.json.encode(found).decode())
        return
    table = Table("model", "state", "workers", "from", box=None)
    for status in found:
        workers = ", ".join(f"{worker}: {state}" for worker, state in sorted(status.workers.items()))
        table.add_row(status.name, status.state, workers, status.reason or status.path)
    Console().print(table, markup=False)


@models.command()
def add(
    name: Annotated[str, typer.Argument(help="As clients write it.")],
    path: Annotated[str, typer.Argument(help="Model folder, GGUF file or hub id.")],
    env: EnvFile = None,
    as_json: AsJson = False,
    timeout: Timeout = _TIMEOUT_S,
) -> None:
    """Serve a model as well; returns when requests for it are answered."""
    local = Path(path).expanduser()
    source = ModelSource(name, str(local.absolute()) if local.exists() else path)
    with _progress(name, as_json) as report:
        status = _run(env, lambda operator: operator.add(source, report), timeout)
    _say(status, f"{name} is served", as_json)


@models.command()
def remove(
    name: Annotated[str, typer.Argument(help="As clients write it.")],
    env: EnvFile = None,
    as_json: AsJson = False,
    timeout: Timeout = _TIMEOUT_S,
) -> None:
    """Serve a model no more; returns when what it had is finished and its memory is free."""
    with _progress(name, as_json) as report:
        _run(env, lambda operator: operator.remove(ModelName(name), report), timeout)
    _say({"name": name, "state": "removed"}, f"{name} is gone", as_json)


def _run(env: Path | None, work: Callable[[Operator], Coroutine[Any, Any, T]], timeout_s: float) -> T:
    async def run() -> T:
        operator = Operator(NatsBus(_bus_config(env), "operator"))
        async with operator.listening(), asyncio.timeout(timeout_s):
            return await work(operator)

    try:
        return asyncio.run(run())
    except TimeoutError:
        raise KottosError(f"not done after {timeout_s:g} s; `kottos models list` shows how far it is") from None


def _bus_config(env: Path | None) -> BusConfig:
    """Raises ConfigError."""
    if env is not None:
        return read_env(env)
    configured = load_config().bus
    if configured.url:
        return configured
    folders = [folder for folder in live_run_dirs() if (folder / OPERATOR_ENV).exists()]
    if len(folders) != 1:
        reason = f"{len(folders)} stacks run here" if folders else "no stack with its own bus runs here"
        raise ConfigError(f"{reason}: give --env RUN_FOLDER/{OPERATOR_ENV}, or set bus.url")
    return read_env(folders[0] / OPERATOR_ENV)


@contextlib.contextmanager
def _progress(name: str, as_json: bool) -> Iterator[Report]:
    """A bar on a terminal."""
    console = Console(stderr=True)
    if as_json or not console.is_terminal:
        yield lambda text, share: None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(name, total=None)

        def report(text: str, share: float | None) -> None:
            bars.update(
                task, description=f"{name} {text}", completed=share or 0.0, total=None if share is None else 1.0
            )

        yield report


def _say(result: ModelStatus | dict[str, str], text: str, as_json: bool) -> None:
    print(msgspec.json.encode(result).decode() if as_json else text)
