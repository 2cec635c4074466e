"""A gateway, a router and a worker with a tiny model, in this process, over the in-memory bus; each can be scraped."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from gateway.app import open_gateway
from gpu_worker.service import WorkerService
from router.service import Router
from shared.aliases import aliases
from shared.config import GatewayConfig, KeysConfig, TelemetryConfig
from shared.ids import Incarnation, WorkerId
from shared.memory_bus import MemoryBroker
from shared.telemetry import Registry
from tests.integration.tiny_models import TinyModels

USER_KEY: Final = "user-key-that-no-log-has"
ADMIN_KEY: Final = "admin-key-that-no-log-has"
WORKER: Final = WorkerId("worker-0")


@dataclass(frozen=True)
class WholeStack:
    url: str
    model: str
    addresses: dict[str, str]  # service -> host:port of its metrics


@asynccontextmanager
async def open_whole(tiny_models: TinyModels, folder: Path) -> AsyncIterator[WholeStack]:
    source = tiny_models.source("llama")
    telemetry = TelemetryConfig(metrics_host="127.0.0.1", access_log=True)
    config = replace(
        tiny_models.config([source]),
        state_dir=folder,
        gateway=GatewayConfig(port=0),
        keys=KeysConfig(api=f"user={USER_KEY}", admin=ADMIN_KEY),
        telemetry=telemetry,
    )
    broker, stopping = MemoryBroker(), asyncio.Event()

    def registry(service: str) -> Registry:
        made = Registry(aliases(vllm=True))
        made.attach(asyncio.get_running_loop())
        made.describe_process(service)
        return made

    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        of_router, of_worker = registry("router"), registry("worker")
        addresses = {
            service: stack.enter_context(made.serving(telemetry))
            for service, made in (("router", of_router), ("worker", of_worker))
        }
        router_bus, worker_bus = broker.connect("router"), broker.connect("worker")
        for bus in (router_bus, worker_bus):
            await bus.start()
            stack.push_async_callback(bus.close)
        router = Router(
            router_bus,
            config.router,
            Incarnation("router-1"),
            registry=of_router,
            metrics_address=addresses["router"],
        )
        worker = WorkerService(config, WORKER, worker_bus, of_worker, addresses["worker"])
        running = [tasks.create_task(service.run(stopping)) for service in (router, worker)]
        async with open_gateway(config, broker.connect("gateway")) as gateway:
            addresses["gateway"] = f"{gateway.host}:{gateway.port}"
            yield WholeStack(f"http://{addresses['gateway']}", source.name, addresses)
        stopping.set()
        await asyncio.wait(running)
