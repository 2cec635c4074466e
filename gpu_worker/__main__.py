"""python -m gpu_worker: one worker, against the bus that KOTTOS_BUS_URL names."""

import asyncio
import os
import signal
import sys

import uvloop

from gpu_worker.service import WorkerService
from shared import log
from shared.bus import NatsBus
from shared.config import Config, check_runnable, load_config
from shared.errors import KottosError
from shared.ids import WorkerId, new_id
from shared.machine import memory_limit_bytes

# Each of a step's several hundred operator calls retakes the GIL: the loop's thread must give it back soon.
_SWITCH_INTERVAL_S = 0.0002


async def _serve(config: Config, worker: WorkerId) -> None:
    bus = NatsBus(config.bus, worker)
    service = WorkerService(config, worker, bus)
    await bus.start()
    running = asyncio.create_task(service.run())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        pass
    finally:
        await bus.close()


def main() -> int:
    worker = WorkerId(os.environ.get("KOTTOS_WORKER_ID") or new_id("worker"))
    try:
        config = load_config()
        check_runnable(config, memory_limit_bytes())
        log.setup(worker, config.log_level)
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        uvloop.run(_serve(config, worker))
    except KottosError as error:
        print(f"{worker}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
