"""`kottos serve`: the whole stack on one machine, from models on disk to a served URL, and back to nothing.

prepare models -> broker -> router -> host cache -> workers -> gateway -> (serving) -> stop in the reverse order
"""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import msgspec
from rich.console import Console

from cli.address import write_url
from cli.banner import banner, base_url
from cli.broker import BrokerSetup
from cli.client_env import write_client_env, write_operator_env
from cli.kept_changes import kept_changes
from cli.listen import choose_port
from cli.prepare import has_demo_packages, prepare
from cli.ready import wait_ready
from cli.run_dir import run_dir
from cli.stack import service_groups
from cli.steward import Steward
from cli.supervisor import Service, Supervisor
from shared.api_keys import new_key
from shared.budget import check_runnable
from shared.bus import NatsBus
from shared.config import BusConfig, Config, ModelSource
from shared.errors import ConfigError, KottosError
from shared.exposure import check_exposure, needs_key
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
    check_exposure(config)
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
    with run_dir() as folder, kept_changes(config.state_dir) as kept:
        # what its processes leave in temporary files goes with the folder
        environ = {name: value for name, value in os.environ.items() if not name.startswith("KOTTOS_")}
        environ["TMPDIR"] = str(folder)
        config = await prepare(config, environ, Console(stderr=True), kept.changes)
        served, keep = kept.served(config.models), kept.keeper(config.models)
        config = msgspec.structs.replace(config, models=tuple(ModelSource(model.name, model.path) for model in served))
        config, own_key = _with_own_key(config)
        async with supervisor:
            buses = await _start_broker(config.bus, environ, folder, supervisor)
            for group in service_groups(config, buses, environ, folder):
                supervisor.start(group)
            client_env = write_client_env(folder, buses["client"]) if "client" in buses else None
            if "operator" in buses:
                write_operator_env(folder, buses["operator"])
            steward = Steward(NatsBus(buses["steward"], "steward"), served, kept.changes.drained, keep)
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(steward.run())
                    tasks.create_task(_end_when_refused(supervisor))
                    tasks.create_task(_greet(config, folder, client_env, own_key))
            except* KottosError as errors:
                raise errors.exceptions[0] from None


async def _end_when_refused(supervisor: Supervisor) -> None:
    await supervisor.refused()
    raise ConfigError("a service refuses this configuration; its reason is above")


async def _greet(config: Config, folder: Path, client_env: Path | None, own_key: str) -> None:
    url = base_url(config.gateway.host, config.gateway.port)
    models = await wait_ready(url, config, own_key)
    write_url(folder, url)
    print(banner(url, models, client_env, needs_key=bool(own_key)), flush=True)


def _with_own_key(config: Config) -> tuple[Config, str]:
    """Where an API key is needed, this supervisor has one, for its own requests; else it is empty."""
    if not needs_key(config):
        return config, ""
    own_key = new_key()
    given = ";".join(filter(None, (config.keys.api, f"kottos-serve={own_key}")))
    return msgspec.structs.replace(config, keys=msgspec.structs.replace(config.keys, api=given)), own_key


async def _start_broker(
    bus: BusConfig, environ: Mapping[str, str], folder: Path, supervisor: Supervisor
) -> Mapping[str, BusConfig]:
    """How each bus user reaches the bus; "client" and "operator" only where the server is ours."""
    if bus.url:
        return dict.fromkeys(("router", "worker", "gateway", "steward"), bus)
    setup = BrokerSetup.prepare(folder)
    supervisor.start([Service("broker", setup.command, environ)])
    await setup.wait_ready()
    return setup.configs
