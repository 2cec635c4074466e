"""python -m gpu_worker.host_cache [--connection FD]

The host model cache: for all workers of this host at `worker.host_cache_socket`, or for the one worker that is its
parent, over an inherited socket. Loads no torch.
"""

import argparse
import asyncio
import socket
import sys
import time
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Final

from gpu_worker.host_cache.blob_file import read_blob
from gpu_worker.host_cache.channel import Channel, is_ours, listening, worker_decoder
from gpu_worker.host_cache.owner import CacheOwner
from shared.budget import plan_budget
from shared.config import Config
from shared.entry import run_service
from shared.errors import ConfigError
from shared.machine import memory_limit_bytes

RECLAIM_TIMEOUT_S: Final = 30.0  # longer than any step


async def serve(connection: int | None, config: Config, stopping: asyncio.Event) -> None:
    total_bytes = plan_budget(config.worker, memory_limit_bytes()).host_bytes
    owner = CacheOwner(total_bytes, read_blob, time.monotonic, reclaim_timeout_s=RECLAIM_TIMEOUT_S)
    if connection is not None:
        channel = Channel(socket.socket(fileno=connection), worker_decoder)
        await _run(owner, owner.attend(channel), stopping)
    elif config.worker.host_cache_socket:
        with listening(Path(config.worker.host_cache_socket)) as listener:
            await _run(owner, _accept(owner, listener), stopping)
    else:
        raise ConfigError("worker.host_cache_socket: the host model cache needs a path to listen at")


async def _run(owner: CacheOwner, attending: Coroutine[None, None, None], stopping: asyncio.Event) -> None:
    """Until told to stop, or the only worker is gone."""
    async with asyncio.TaskGroup() as tasks:
        work = [tasks.create_task(attending), tasks.create_task(owner.run())]
        work[0].add_done_callback(lambda _: stopping.set())
        await stopping.wait()
        for task in work:
            task.cancel()


async def _accept(owner: CacheOwner, listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as workers:
        while True:
            connection, _ = await loop.sock_accept(listener)
            if is_ours(connection):
                workers.create_task(owner.attend(Channel(connection, worker_decoder)))
            else:
                connection.close()


def _connection() -> int | None:
    parser = argparse.ArgumentParser(prog="python -m gpu_worker.host_cache", description=__doc__)
    parser.add_argument("--connection", type=int, metavar="FD", help="an inherited socket, instead of listening")
    connection: int | None = parser.parse_args().connection
    return connection


if __name__ == "__main__":
    sys.exit(run_service("host-cache", partial(serve, _connection())))
