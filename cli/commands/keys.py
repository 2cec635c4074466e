"""`kottos keys create|list|revoke`: changes the file of API keys, which running gateways read again within a second."""

import sys
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from cli.commands.options import AsJson
from cli.output import print_json, print_table
from shared.api_keys import (
    ApiKey,
    Limit,
    added,
    change_keys,
    hash_of,
    key_file,
    new_key,
    new_key_id,
    read_keys,
    without,
)
from shared.config import CONFIG_VARIABLE, load_config
from shared.errors import ConfigError
from shared.slo import Priority

keys = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help=f"The stack's TOML file, if any. Environment: {CONFIG_VARIABLE}.")
]


class CreatedKey(msgspec.Struct, frozen=True):
    id: str
    name: str
    key: str


class ShownKey(msgspec.Struct, frozen=True):
    """All but the hash."""

    id: str
    name: str
    created: int  # Unix time
    is_admin: bool
    models: tuple[str, ...] | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    concurrency: int | None
    priority: int | None


@keys.command()
def create(
    name: Annotated[str, typer.Option(help="Whose it is, or what for.")],
    models: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A model that it may use; repeatable. Default: all.")
    ] = None,
    requests_per_minute: Annotated[int | None, typer.Option(metavar="NUMBER", help="Default: no limit.")] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Of prompts and outputs. Default: no limit.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Sequences in flight. Default: no limit.")
    ] = None,
    priority: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", help="The most urgent of its requests; lower is served first. Default: any."),
    ] = None,
    admin: Annotated[bool, typer.Option("--admin", help="It may administrate, too.")] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. It is printed now and kept nowhere."""
    key = new_key()
    made = ApiKey(
        id=new_key_id(),
        name=name,
        sha256=hash_of(key),
        created=int(time.time()),
        is_admin=admin,
        models=tuple(models) if models else None,
        requests_per_minute=_checked("requests-per-minute", requests_per_minute, Limit),
        tokens_per_minute=_checked("tokens-per-minute", tokens_per_minute, Limit),
        concurrency=_checked("concurrency", concurrency, Limit),
        priority=_checked("priority", priority, Priority),
    )
    change_keys(_path(config), lambda kept: added(kept, made))
    if as_json:
        print_json(CreatedKey(made.id, made.name, key))
        return
    print(f"The key of {name!r} ({made.id}), which is shown this once:", file=sys.stderr)
    print(key)


@keys.command("list")
def list_keys(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """The keys, without themselves."""
    found = read_keys(_path(config)) or ()
    if as_json:
        print_json([_shown(key) for key in found])
        return
    rows = []
    for key in found:
        name = f"{key.name} (admin)" if key.is_admin else key.name
        created = time.strftime("%Y-%m-%d", time.localtime(key.created))
        rows.append((name, key.id, created, "all" if key.models is None else ", ".join(key.models), _limits(key)))
    print_table("name", "id", "created", "models", "limits", rows=rows)


@keys.command()
def revoke(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME_OR_ID...", help="Whose requests are refused from now on.")
    ],
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Take keys back. What their holders have running ends by itself."""
    path = _path(config)

    def change(kept: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        for name in names:
            kept = without(kept, name)
        return kept

    change_keys(path, change)
    if as_json:
        print_json(names)
        return
    print("\n".join(f"{name} is revoked" for name in names))
    if not read_keys(path):
        print(f"No key is left, and nobody gets in; to serve this machine without keys, remove {path}", file=sys.stderr)


def _path(config: Path | None) -> Path:
    return key_file(load_config(file=config))


def _checked(option: str, value: int | None, kind: object) -> int | None:
    """Raises ConfigError."""
    try:
        return None if value is None else msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"--{option} {value}: {str(error).replace('`', '')}") from None


def _limits(key: ApiKey) -> str:
    limits = (
        (key.requests_per_minute, "{} requests/min"),
        (key.tokens_per_minute, "{} tokens/min"),
        (key.concurrency, "{} in flight"),
        (key.priority, "priority {}"),
    )
    return ", ".join(text.format(limit) for limit, text in limits if limit is not None)


def _shown(key: ApiKey) -> ShownKey:
    return ShownKey(*(getattr(key, name) for name in ShownKey.__struct_fields__))
