"""`python -m gpu_worker`: one worker, on the NATS server that the configuration names."""

import asyncio
import sys
from typing import Final

from gpu_worker.service import WorkerService
from shared import log
from shared.aliases import aliases
from shared.budget import check_runnable
from shared.bus import NatsBus
from shared.config import Config
from shared.entry import run_service
from shared.ids import WorkerId, new_id
from shared.machine import memory_limit_bytes
from shared.telemetry import Registry
from shared.tracing import open_tracer

# Each of a step's several hundred operator calls retakes the GIL: the loop's thread must give it back soon.
_SWITCH_INTERVAL_S: Final = 0.0002


async def serve(config: Config, stopping: asyncio.Event) -> None:
    check_runnable(config, memory_limit_bytes())
    worker = WorkerId(config.worker.id or new_id("worker"))
    log.setup(worker, config.log_level, config.telemetry.log_format)
    bus, registry = NatsBus(config.bus, worker), Registry(aliases(vllm=config.telemetry.vllm_metrics))
    registry.describe_process("worker")
    registry.attach(asyncio.get_running_loop())
    async with open_tracer(config.telemetry, "worker", worker) as tracer:
        with registry.serving(config.telemetry) as metrics_address:
            service = WorkerService(config, worker, bus, registry, metrics_address, tracer)
            await bus.start()
            try:
                await service.run(stopping)
            finally:
                await bus.close()


if __name__ == "__main__":
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    sys.exit(run_service("worker", serve))
