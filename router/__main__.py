"""`python -m router`: one router on the NATS server that the configuration names."""

import asyncio
import logging
import sys

from router.service import Router
from shared.aliases import aliases
from shared.bus import NatsBus
from shared.config import Config
from shared.entry import run_service
from shared.ids import Incarnation, new_id
from shared.telemetry import Registry
from shared.tracing import open_tracer

_log = logging.getLogger("router")


async def serve(config: Config, stopping: asyncio.Event) -> None:
    bus, registry = NatsBus(config.bus, "router"), Registry(aliases(vllm=config.telemetry.vllm_metrics))
    registry.describe_process("router")
    registry.attach(asyncio.get_running_loop())
    incarnation = Incarnation(new_id("router"))
    async with open_tracer(config.telemetry, "router", incarnation) as tracer:
        with registry.serving(config.telemetry) as metrics_address:
            await bus.start()
            try:
                router = Router(
                    bus,
                    config.router,
                    incarnation,
                    registry=registry,
                    metrics_address=metrics_address,
                    tracer=tracer,
                )
                _log.info("router %s serves", incarnation)
                await router.run(stopping)
                _log.info("router %s stops", incarnation)
            finally:
                await bus.close()


if __name__ == "__main__":
    sys.exit(run_service("router", serve))
