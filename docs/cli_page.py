"""Makes docs/cli.md from the commands themselves: python -m docs.cli_page"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from msgspec import inspect
from typer.main import get_command

from cli.chat.once import ShownAnswer
from cli.commands.keys import CreatedKey, ShownKey
from cli.commands.models import Told
from cli.exit_codes import MEANINGS
from cli.fleet_objects import Drained, InFlight, Worker
from cli.load_test.summary import Summary
from cli.main import app
from cli.operator import ChangedModel, ModelStatus
from cli.top.feed import Event
from cli.version import Versions

PAGE: Final = Path(__file__).with_name("cli.md")

# What --json prints.
SHAPES: Final[dict[str, Any]] = {
    "chat": ShownAnswer,
    "top": Event,
    "models list": list[ModelStatus],
    "models add": ModelStatus,
    "models remove": Told,
    "models pin": ChangedModel,
    "models unpin": ChangedModel,
    "models slo": ChangedModel,
    "models load": Told,
    "models unload": Told,
    "workers": list[Worker],
    "requests": list[InFlight],
    "drain": Drained,
    "keys create": CreatedKey,
    "keys list": list[ShownKey],
    "keys revoke": list[str],
    "bench serve": Summary,
    "version": Versions,
}

HEAD: Final = """\
# The command line

Made by `docs/cli_page.py` from the commands themselves. `kottos --install-completion` has the shell complete commands,
options and, where a gateway answers at once, names of models and workers.

`chat`, `top`, `workers`, `requests`, `drain`, `models load`, `models unload` and `bench serve` ask a gateway over HTTP:
at `--url` or `KOTTOS_URL`, else that of the only stack that runs here, else `http://127.0.0.1:8000`. The API key is in
the file that `--api-key-file` names, else in `KOTTOS_API_KEY`; no option has it, as other users see command lines. All
of them but `chat` and `bench serve` need an administrator's. The other `models` commands ask the stack's steward over
its message bus, by the credentials in its run folder (`--env`).

Results go to standard output, all else to standard error: errors in one line, and bars where something lasts, on a
terminal only. `--json` prints what is shown below with the command; fields may be added, and none changes its meaning.

## Exit status

| status | when |
|---|---|"""


def page() -> str:
    lines = [*HEAD.splitlines(), *(f"| {code.value} | {meaning} |" for code, meaning in MEANINGS.items())]
    lines += ["", "`cli/exit_codes.py::ExitCode` has them. Services that start alone end with 0, 1 and 2 likewise."]
    for path, command in _commands(get_command(app), ""):
        lines += ["", f"## kottos {path}", "", *_described(path, command)]
    return "\n".join(lines) + "\n"


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """But for groups, and for benchmarks, which describe themselves."""
    for name, part in getattr(command, "commands", {}).items():
        yield from _commands(part, f"{path} {name}".strip())
    if not hasattr(command, "commands") and not command.context_settings.get("allow_extra_args"):
        yield path, command


def _described(path: str, command: Any) -> Iterator[str]:
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    options = [param for param in command.params if param.param_type_name == "option"]
    named = " ".join(_argument(argument) for argument in arguments)
    yield f"`kottos {path}{' ' if named else ''}{named}`: {' '.join(command.help.split())}"
    if command.params:
        yield from ("", "| | |", "|---|---|")
    for argument in arguments:
        yield f"| `{_name(argument)}` | {argument.help} |"
    for option in options:
        yield f"| {_flags(option)} | {option.help}{_default(option)} |"
    if any("--json" in option.opts for option in options):
        yield from ("", "`--json`:", "", "```", *_shape(inspect.type_info(SHAPES[path]), ""), "```")


def _name(argument: Any) -> str:
    return (argument.metavar or argument.name.upper()).removesuffix("...")


def _argument(argument: Any) -> str:
    name = _name(argument) + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _flags(option: Any) -> str:
    value = "" if option.is_flag else f" {option.metavar or option.name.rpartition('_')[2].upper()}"
    return ", ".join(f"`{flag}{value}`" for flag in (*option.opts, *option.secondary_opts))


def _default(option: Any) -> str:
    told = option.default
    is_told = told not in (None, False, True, "") and "Default" not in option.help
    return f" Default: {told:g}." if is_told and isinstance(told, float) else f" Default: {told}." if is_told else ""


def _shape(kind: inspect.Type, indent: str) -> list[str]:
    """The lines of a value, the first one without its indentation."""
    match kind:
        case inspect.StructType(fields=fields, array_like=True):
            return [f"[{', '.join(field.encode_name for field in fields)}]"]
        case inspect.StructType(fields=fields) | inspect.DataclassType(fields=fields):
            parts = [_field(field, indent + "  ") for field in fields]
            if isinstance(kind, inspect.StructType) and kind.tag is not None:
                parts.insert(0, [f'{indent}  "{kind.tag_field}": "{kind.tag}"'])
            return ["{", *_joined(parts), indent + "}"]
        case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item):
            first, *others = _shape(item, indent)
            return _closed([f"[{first}", *others], ", ...]")
        case inspect.DictType(value_type=value):
            first, *others = _shape(value, indent)
            return _closed([f"{{name: {first}", *others], ", ...}")
        case inspect.UnionType(types=types) if any(isinstance(each, inspect.NoneType) for each in types):
            [some] = [each for each in types if not isinstance(each, inspect.NoneType)]
            return _closed(_shape(some, indent), " or null")
        case inspect.UnionType(types=types):
            return [line for each in types for line in _shape(each, indent)]
    return [_SIMPLE[type(kind)]]


def _field(field: inspect.Field, indent: str) -> list[str]:
    first, *others = _shape(field.type, indent)
    return [f'{indent}"{field.encode_name}": {first}', *others]


def _joined(parts: list[list[str]]) -> list[str]:
    return [line for part in parts[:-1] for line in _closed(part, ",")] + parts[-1]


def _closed(lines: list[str], end: str) -> list[str]:
    return [*lines[:-1], lines[-1] + end]


_SIMPLE: Final[dict[type, str]] = {
    inspect.StrType: "text",
    inspect.IntType: "integer",
    inspect.FloatType: "number",
    inspect.BoolType: "true or false",
}


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
