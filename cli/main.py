"""The `kottos` command: its parts, and how it ends."""

import importlib.metadata
import sys
from typing import Annotated

import typer

from cli.commands.keys import keys
from cli.commands.models import models
from cli.commands.serve import serve
from shared.errors import ConfigError, KottosError

app = typer.Typer(
    help="Serves many language models on few accelerators.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(serve)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def bench(context: typer.Context, name: Annotated[str, typer.Argument(help="switch, throughput, ...")]) -> None:
    """Run a benchmark of the repository; what follows its name goes to it (try --help)."""
    from cli.bench import run_benchmark

    run_benchmark(name, context.args)


app.add_typer(keys, name="keys")
app.add_typer(models, name="models")


@app.command()
def version() -> None:
    """Print the version."""
    print(importlib.metadata.version("kottos"))


def main() -> None:
    """Exit status 2: the configuration is at fault; 1: anything else that has a reason."""
    try:
        app()
    except KottosError as error:
        print(f"kottos: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
