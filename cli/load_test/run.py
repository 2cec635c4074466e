"""Sends a load: each request at its time, or as many at once as are wanted."""

import asyncio
from collections.abc import Callable

from cli.gateway_client import GatewayClient
from cli.load_test.plan import Load, Planned, planned
from cli.load_test.request import Api, Measured, measure
from cli.output import Report


async def run_load(
    client: GatewayClient, load: Load, concurrency: int | None, api: Api, report: Report, *, ignore_eos: bool
) -> tuple[list[Measured], float]:
    """What was measured, in order, and how many seconds it took. concurrency: at most so many at once."""
    loop_clock = asyncio.get_running_loop().time
    began_at_s = loop_clock()
    done: list[Measured] = []

    def clock() -> float:
        return loop_clock() - began_at_s

    async def send(each: Planned, turn: asyncio.Semaphore | None) -> None:
        try:
            # Where it had to wait for its turn, that counts: a client would not have waited otherwise.
            arrived_at_s = clock() if each.at_s is None else each.at_s
            done.append(await measure(client, each, api, ignore_eos=ignore_eos, arrived_at_s=arrived_at_s, clock=clock))
            report(f"{len(done)} of {load.num_requests}", len(done) / load.num_requests)
        finally:
            if turn is not None:
                turn.release()

    turn = None if concurrency is None else asyncio.Semaphore(concurrency)
    async with asyncio.TaskGroup() as tasks:
        for each in planned(load):
            if each.at_s is not None:
                await _sleep_until(each.at_s, clock)
            if turn is not None:
                await turn.acquire()
            tasks.create_task(send(each, turn))
    return sorted(done, key=lambda measured: measured.planned.index), clock()


async def _sleep_until(at_s: float, clock: Callable[[], float]) -> None:
    if (left_s := at_s - clock()) > 0:
        await asyncio.sleep(left_s)
