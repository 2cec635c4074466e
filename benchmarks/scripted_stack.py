"""Gateway, router and nats-server as processes, and in place of GPU workers ones that run no model, in this process."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import msgspec

from benchmarks.scripted_worker import ScriptedWorker
from cli.banner import base_url
from cli.broker import BrokerSetup
from cli.listen import choose_port
from cli.ready import wait_ready
from cli.run_dir import run_dir
from cli.stack import service_groups
from cli.supervisor import Service, Supervisor
from shared.bus import NatsBus
from shared.config import Config, GatewayConfig, ModelSource, TelemetryConfig, load_config
from shared.ids import ModelName, WorkerId


@dataclass(frozen=True)
class Stack:
    url: str
    model: str
    workers: Sequence[ScriptedWorker]
    gateway_pid: int


@asynccontextmanager
async def open_stack(
    source: ModelSource,
    token_id: int,
    num_workers: int = 1,
    gateway: GatewayConfig | None = None,
    telemetry: TelemetryConfig | None = None,
) -> AsyncIterator[Stack]:
    """Each worker answers with that token, over and over."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("KOTTOS_")}
    gateway = gateway or GatewayConfig()
    gateway = msgspec.structs.replace(gateway, port=choose_port(gateway.host, 0))
    config = Config(models=(source,), cache_dir=load_config().cache_dir, log_level="warning", gateway=gateway)
    url = base_url(gateway.host, gateway.port)
    with run_dir() as folder:
        config = msgspec.structs.replace(config, state_dir=folder)  # without API keys
        if telemetry is not None:
            config = msgspec.structs.replace(config, telemetry=telemetry)
        async with Supervisor() as supervisor, AsyncExitStack() as stack:
            broker = BrokerSetup.prepare(folder)
            supervisor.start([Service("broker", broker.command, environ)])
            await broker.wait_ready()
            without_keys = msgspec.structs.replace(config, state_dir=folder)  # whatever keys its user has
            router, *_, gateway_services = service_groups(without_keys, broker.configs, environ, folder)
            supervisor.start(router)
            supervisor.start(gateway_services)
            workers = []
            for number in range(num_workers):
                bus = NatsBus(broker.configs["worker"], f"scripted worker {number}")
                workers.append(ScriptedWorker(WorkerId(f"scripted-{number}"), bus, ModelName(source.name), token_id))
                await stack.enter_async_context(workers[-1].running())
            await wait_ready(url, config)
            yield Stack(url, source.name, workers, supervisor.pids()["gateway"])
