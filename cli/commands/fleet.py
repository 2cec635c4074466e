"""`kottos workers`, `requests`, `drain`."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.commands.completion import worker_names
from cli.commands.options import ApiKeyFile, AsJson, Url

if TYPE_CHECKING:
    from cli.fleet_objects import Drained
    from cli.gateway_client import GatewayClient


def workers(url: Url = None, api_key_file: ApiKeyFile = None, as_json: AsJson = False) -> None:
    """The workers, what they have and what they run."""
    from cli import fleet
    from cli.gateway_client import run_with_gateway
    from cli.output import print_json, print_table
    from shared.units import format_size

    found = run_with_gateway(url, api_key_file, fleet.workers)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            worker.id,
            "drained" if worker.draining else "serves",
            f"{worker.num_sequences}",
            f"{format_size(worker.kv_used_bytes)} of {format_size(worker.kv_total_bytes)}",
            ", ".join(f"{model.id} {model.state}" for model in worker.models),
        )
        for worker in found
    ]
    print_table("worker", "state", "sequences", "KV", "models", rows=rows)


def requests(url: Url = None, api_key_file: ApiKeyFile = None, as_json: AsJson = False) -> None:
    """What the gateway has in flight, the oldest first."""
    from cli import fleet
    from cli.gateway_client import run_with_gateway
    from cli.output import print_json, print_table

    found = run_with_gateway(url, api_key_file, fleet.requests)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            request.request_id,
            request.model,
            request.tenant,
            request.phase,
            f"{request.age_s:.1f} s",
            f"{request.num_prompt_tokens}+{request.num_output_tokens}",
            request.worker or "",
        )
        for request in found
    ]
    print_table("request", "model", "tenant", "phase", "age", "tokens", "worker", rows=rows)


def drain(
    worker: Annotated[str, typer.Argument(help="As `kottos workers` names it.", autocompletion=worker_names)],
    undo: Annotated[bool, typer.Option("--undo", help="Give it work again.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return when it has finished what it had.")] = False,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=0.1, help="With --wait: for how long.")] = 600.0,
    url: Url = None,
    api_key_file: ApiKeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Give a worker no new work; what it has ends by itself."""
    from cli import fleet
    from cli.gateway_client import run_with_gateway
    from cli.output import print_json, progress

    if undo and wait:
        raise typer.BadParameter("with --undo there is nothing to wait for", param_hint="--wait")

    async def act(client: "GatewayClient") -> "Drained":
        if undo:
            return await fleet.resume(client, worker)
        drained = await fleet.drain(client, worker)
        if not wait:
            return drained
        return await fleet.wait_until_idle(client, worker, report, timeout)

    with progress(worker, quiet=as_json) as report:
        done = run_with_gateway(url, api_key_file, act)
    if as_json:
        print_json(done)
    elif undo:
        print(f"{worker} takes work again")
    else:
        print(f"{worker} is idle and takes no new work" if wait else f"{worker} takes no new work")
