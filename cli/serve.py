"""`kottos serve`: the whole stack on one machine, from models on disk to a served URL, and back to nothing.

prepare models -> broker -> router -> workers -> gateway -> (serving) -> gateway, workers, router, broker stop
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import msgspec
from rich.console import Console

from cli.banner import ShownModel, banner, base_url
from cli.broker import BrokerSetup
from cli.listen import choose_port
from cli.prepare import has_demo_packages, import_models, prepare_demo
from cli.progress import PreparationView
from cli.run_dir import run_dir
from cli.supervisor import Service, Supervisor
from shared.catalogue import open_catalogue, read_card
from shared.config import BusConfig, Config, check_runnable, to_environ
from shared.errors import ConfigError
from shared.ids import ModelName
from shared.machine import memory_limit_bytes

_log = logging.getLogger(__name__)


def run(config: Config) -> None:
    """Serves until Ctrl-C, SIGTERM or SIGHUP. Raises KottosError when it can't start."""
    check_runnable(config, memory_limit_bytes())
    if not config.models and not config.demo:
        if not has_demo_packages():
            raise ConfigError(
                "models: none is configured: give --model NAME=PATH, or get the demo models by `make setup`"
            )
        config = msgspec.structs.replace(config, demo=True)
    port = choose_port(config.gateway.host, config.gateway.port)
    config = msgspec.structs.replace(config, gateway=msgspec.structs.replace(config.gateway, port=port))
    asyncio.run(_run_until_interrupted(config))


async def _run_until_interrupted(config: Config) -> None:
    """The first signal stops in order, a second one kills."""
    supervisor = Supervisor()
    serving = asyncio.create_task(_serve(config, supervisor))

    def interrupt() -> None:
        if serving.cancelling():
            supervisor.kill()
        else:
            _log.info("stopping; a second signal kills at once")
            serving.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # ignored by nohup
            loop.add_signal_handler(number, interrupt)
    with contextlib.suppress(asyncio.CancelledError):
        await serving


async def _serve(config: Config, supervisor: Supervisor) -> None:
    config = await _prepare(config, Console(stderr=True))
    with run_dir() as folder:
        async with supervisor:
            buses = await _start_broker(config.bus, folder, supervisor)
            supervisor.start([_service("router", "router", config, buses["router"])])
            supervisor.start(
                [
                    _service(f"worker-{i}", "gpu_worker", config, buses["worker"])
                    for i in range(config.worker.num_workers)
                ]
            )
            supervisor.start([_service("gateway", "gateway", config, buses["gateway"])])
            url = base_url(config.gateway.host, config.gateway.port)
            print(banner(url, await _wait_ready(url, config)), flush=True)
            await asyncio.Event().wait()


async def _prepare(config: Config, console: Console) -> Config:
    """Every model is in the cache afterwards."""
    with PreparationView(console) as view:
        if config.demo:
            configured = {model.name for model in config.models}
            demo = [model for model in await prepare_demo(config.cache_dir, view) if model.name not in configured]
            config = msgspec.structs.replace(config, models=(*config.models, *demo), demo=False)
        await import_models(config, view)
    return config


async def _start_broker(bus: BusConfig, folder: Path, supervisor: Supervisor) -> Mapping[str, BusConfig]:
    """How each service reaches the bus."""
    if bus.url:
        return dict.fromkeys(("router", "worker", "gateway"), bus)
    setup = BrokerSetup.prepare(folder)
    supervisor.start([Service("broker", setup.command, os.environ)])
    await setup.wait_ready()
    return setup.configs


def _service(name: str, module: str, config: Config, bus: BusConfig) -> Service:
    worker = msgspec.structs.replace(config.worker, id=name) if module == "gpu_worker" else config.worker
    config = msgspec.structs.replace(config, bus=bus, worker=worker)
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("KOTTOS_")}
    return Service(name, [sys.executable, "-P", "-m", module], inherited | to_environ(config))


class _Model(msgspec.Struct):
    id: str
    state: str = ""


class _Models(msgspec.Struct):
    data: list[_Model]


async def _wait_ready(url: str, config: Config) -> list[ShownModel]:
    """Asks the gateway until a request would be served."""
    catalogue = open_catalogue(config)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5.0)) as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, msgspec.DecodeError):
                async with session.get(f"{url}/ready") as ready, session.get(f"{url}/v1/models") as models:
                    if ready.status == 200:
                        listed = msgspec.json.decode(await models.read(), type=_Models).data
                        break
            await asyncio.sleep(0.1)
    cards = {model.id: read_card(catalogue[ModelName(model.id)]) for model in listed}
    return [
        ShownModel(model.id, model.state, (card := cards[model.id]) is not None and card.has_chat_template)
        for model in listed
    ]
