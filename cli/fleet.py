"""`kottos workers`, `requests`, `drain`: asks a gateway's administration."""

import asyncio
from typing import Final
from urllib.parse import quote

import msgspec

from cli.fleet_objects import Drained, InFlight, RequestList, Worker, WorkerList
from cli.gateway_client import GatewayClient
from cli.output import Report
from shared.errors import KottosError

_LOOK_S: Final = 0.5  # workers beat about as often


async def workers(client: GatewayClient) -> list[Worker]:
    return (await client.ask("GET", "/admin/workers", WorkerList)).data


async def requests(client: GatewayClient) -> list[InFlight]:
    """The oldest first."""
    return (await client.ask("GET", "/admin/requests", RequestList)).data


async def drain(client: GatewayClient, name: str) -> Drained:
    """It takes no new work from now on."""
    await client.ask("POST", f"/admin/workers/{quote(name, safe='')}/drain", msgspec.Raw)
    return Drained(name, draining=True)


async def resume(client: GatewayClient, name: str) -> Drained:
    await client.ask("POST", f"/admin/workers/{quote(name, safe='')}/resume", msgspec.Raw)
    return Drained(name, draining=False)


async def wait_until_idle(client: GatewayClient, name: str, report: Report, timeout_s: float) -> Drained:
    """Until a drained worker has finished what it had. Raises KottosError when that takes too long, and when the worker
    goes or is resumed meanwhile."""
    try:
        async with asyncio.timeout(timeout_s):
            return await _wait(client, name, report)
    except TimeoutError:
        raise KottosError(f"worker {name!r} has sequences still, after {timeout_s:g} s; it stays drained") from None


async def _wait(client: GatewayClient, name: str, report: Report) -> Drained:
    num_most, has_heard = 0, False
    while True:
        worker = next((worker for worker in await workers(client) if worker.id == name), None)
        if worker is None:
            raise KottosError(f"worker {name!r} is gone")
        if has_heard and not worker.draining:
            raise KottosError(f"worker {name!r} was resumed meanwhile")
        has_heard |= worker.draining  # else its last beat is from before
        num_left = worker.num_sequences
        if has_heard and not num_left:
            return Drained(name, draining=True, num_sequences=0)
        num_most = max(num_most, num_left)
        report(f"finishes {num_left} sequences", 1 - num_left / num_most if num_most else None)
        await asyncio.sleep(_LOOK_S)
