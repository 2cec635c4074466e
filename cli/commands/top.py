"""`kottos top`."""

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from cli.commands.options import ApiKeyFile, Url

if TYPE_CHECKING:
    from cli.gateway_client import GatewayClient


def top(
    once: Annotated[bool, typer.Option("--once", help="Print what is now, and end.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print events as they come, an object a line; with --once the state alone.")
    ] = False,
    url: Url = None,
    api_key_file: ApiKeyFile = None,
) -> None:
    """What every worker does, model by model, as it happens: the dashboard in a terminal."""
    from cli.gateway_client import run_with_gateway

    if once or as_json:
        run_with_gateway(url, api_key_file, lambda client: _print(client, once=once, as_json=as_json))
    elif sys.stdout.isatty():
        run_with_gateway(url, api_key_file, _show)
    else:
        raise typer.BadParameter("there is no terminal: ask for --once or --json", param_hint="top")


async def _show(client: "GatewayClient") -> None:
    from rich.console import Console

    from cli.top.screen import Screen

    await Screen(client, Console()).run()


async def _print(client: "GatewayClient", *, once: bool, as_json: bool) -> None:
    from cli.output import print_json
    from cli.top.watch import feed, settled

    if not once:
        async for event in feed(client):
            print_json(event)
        return
    view = await settled(client, time.monotonic)
    if as_json:
        print_json(view.state)
        return
    from rich.console import Console

    from cli.top.render import ALL_ROWS, render

    console = Console()
    has_colours = console.color_system is not None
    console.print(render(view, console.width, ALL_ROWS, time.monotonic(), has_colours=has_colours))
