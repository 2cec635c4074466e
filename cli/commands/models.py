"""`kottos models`: list, add, remove, and how each is served, on a stack that runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from cli.commands.completion import model_names
from cli.commands.options import ApiKeyFile, AsJson, Url

if TYPE_CHECKING:
    from cli.operator import ChangedModel, ModelStatus
    from shared.levels import LevelKey

_TIMEOUT_S: Final = 1800.0  # an import may have to download, and to wait for another one
_DEFAULT: Final = "default"
_LEVEL_KEYS: "Final[tuple[LevelKey, ...]]" = ("ttft_s", "tbt_s", "priority")


class Told(msgspec.Struct, frozen=True):
    name: str
    state: str  # that it is in now, or on its way to


models = typer.Typer(help="List, add and remove models of a running stack.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="As clients write it.", autocompletion=model_names)]
EnvFile = Annotated[
    Path | None,
    typer.Option("--env", help="The operator.env of the stack's run folder; by default that of the only one here."),
]
Timeout = Annotated[float, typer.Option(metavar="SECONDS", min=0.1, help="How long to wait until it is done.")]


@models.command("list")
def list_models(env: EnvFile = None, as_json: AsJson = False) -> None:
    """The models that are served, and their states on the workers."""
    from cli.operating import operate
    from cli.output import print_json, print_table

    found = operate(env, lambda operator: operator.listed(), _TIMEOUT_S)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            status.name,
            status.state,
            ", ".join(f"{worker}: {state}" for worker, state in sorted(status.workers.items())),
            status.reason or status.path,
        )
        for status in found
    ]
    print_table("model", "state", "workers", "from", rows=rows)


@models.command()
def add(
    name: Annotated[str, typer.Argument(help="As clients write it.")],
    path: Annotated[str, typer.Argument(help="Model folder, GGUF file or hub id.")],
    env: EnvFile = None,
    as_json: AsJson = False,
    timeout: Timeout = _TIMEOUT_S,
) -> None:
    """Serve a model as well; returns when requests for it are answered."""
    from cli.operating import operate
    from cli.output import progress
    from shared.config import ModelSource

    local = Path(path).expanduser()
    source = ModelSource(name, str(local.absolute()) if local.exists() else path)
    with progress(name, quiet=as_json) as report:
        status = operate(env, lambda operator: operator.add(source, report), timeout)
    _say(status, f"{name} is served", as_json)


@models.command()
def remove(name: Name, env: EnvFile = None, as_json: AsJson = False, timeout: Timeout = _TIMEOUT_S) -> None:
    """Serve a model no more; returns when what it had is finished and its memory is free."""
    from cli.operating import operate
    from cli.output import progress
    from shared.ids import ModelName

    with progress(name, quiet=as_json) as report:
        operate(env, lambda operator: operator.remove(ModelName(name), report), timeout)
    _say(Told(name, "removed"), f"{name} is gone", as_json)


@models.command()
def pin(name: Name, env: EnvFile = None, as_json: AsJson = False) -> None:
    """Keep a model's weights on devices, while others have a place without."""
    _say(_changed(env, name, pinned=True), f"{name} is pinned", as_json)


@models.command()
def unpin(name: Name, env: EnvFile = None, as_json: AsJson = False) -> None:
    """Let a model's weights go like others."""
    _say(_changed(env, name, pinned=False), f"{name} is no longer pinned", as_json)


@models.command()
def slo(
    name: Name,
    ttft: Annotated[
        str | None, typer.Option(metavar="SECONDS", help="In which first tokens are due, or `default`.")
    ] = None,
    tbt: Annotated[str | None, typer.Option(metavar="SECONDS", help="From token to token, or `default`.")] = None,
    priority: Annotated[str | None, typer.Option(metavar="NUMBER", help="Lower is served first; or `default`.")] = None,
    env: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Change the service level of a model's requests to come; `default` means as configured."""
    values = zip(_LEVEL_KEYS, (ttft, tbt, priority), strict=True)
    given = {key: value for key, value in values if value is not None}
    if not given:
        raise typer.BadParameter("give --ttft, --tbt or --priority", param_hint="slo")
    level = {key: value for key, value in given.items() if value != _DEFAULT}
    cleared = tuple(key for key in _LEVEL_KEYS if given.get(key) == _DEFAULT)
    _say(_changed(env, name, level, cleared), f"{name} has another service level", as_json)


@models.command()
def load(
    name: Name,
    worker: Annotated[str | None, typer.Option(metavar="NAME", help="Default: the one with the least to do.")] = None,
    url: Url = None,
    api_key_file: ApiKeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Have a model's weights brought to a worker, before anybody asks for it."""
    _order("load", name, worker, url, api_key_file)
    _say(Told(name, "loading"), f"{name} is on its way; `kottos models list` says how far", as_json)


@models.command()
def unload(
    name: Name,
    worker: Annotated[str | None, typer.Option(metavar="NAME", help="Default: all of them.")] = None,
    url: Url = None,
    api_key_file: ApiKeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Have the memory of a model's weights freed; it comes back when somebody asks for it."""
    _order("unload", name, worker, url, api_key_file)
    _say(Told(name, "unloading"), f"{name} leaves memory when it is idle", as_json)


def _changed(
    env: Path | None,
    name: str,
    level: "Mapping[LevelKey, str] | None" = None,
    cleared: "tuple[LevelKey, ...]" = (),
    pinned: bool | None = None,
) -> "ChangedModel":
    from cli.operating import operate, parse_level
    from shared.ids import ModelName

    change = parse_level(level or {})
    return operate(env, lambda operator: operator.change(ModelName(name), change, cleared, pinned), _TIMEOUT_S)


def _order(order: str, name: str, worker: str | None, url: str | None, api_key_file: Path | None) -> None:
    """Asked of a gateway, which chooses the workers by what their beats say."""
    from urllib.parse import quote, urlencode

    from cli.gateway_client import run_with_gateway

    query = f"?{urlencode({'worker': worker})}" if worker else ""
    path = f"/admin/models/{quote(name)}/{order}{query}"
    run_with_gateway(url, api_key_file, lambda client: client.ask("POST", path, msgspec.Raw))


def _say(result: "ModelStatus | ChangedModel | Told", text: str, as_json: bool) -> None:
    from cli.output import print_json

    if as_json:
        print_json(result)
    else:
        print(text)
