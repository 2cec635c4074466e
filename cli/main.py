"""The `kottos` command: its parts, and how it ends."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from cli.commands.bench import bench
from cli.commands.chat import chat
from cli.commands.fleet import drain, requests, workers
from cli.commands.keys import keys
from cli.commands.models import models
from cli.commands.serve import serve
from cli.commands.steward import steward
from cli.commands.top import top
from cli.commands.version import print_version, version
from cli.exit_codes import exit_code
from cli.output import printable
from shared.errors import KottosError

app = typer.Typer(
    help="Serves many language models on few accelerators.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def _kottos(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=print_version, help="Print the version and end.")
    ] = False,
) -> None:
    pass


app.command()(serve)
app.command()(chat)
app.command()(top)
app.add_typer(models, name="models")
app.command()(workers)
app.command()(requests)
app.command()(drain)
app.add_typer(keys, name="keys")
app.add_typer(bench, name="bench")
app.command()(steward)
app.command()(version)


def main(arguments: Sequence[str] | None = None) -> None:
    """Ends the process, as `cli/exit_codes.py` says."""
    try:
        app(arguments)
    except KottosError as error:
        print(f"kottos: {printable(str(error))}", file=sys.stderr)
        sys.exit(exit_code(error))
    except OSError as error:
        print(f"kottos: {error}", file=sys.stderr)
        sys.exit(1)
