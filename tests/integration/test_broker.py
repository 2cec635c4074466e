"""The embedded server as a process: who can reach it, and that it neither outlives its parent nor loses its port."""

import asyncio
import json
import os
import signal
import socket
import stat
import sys
from pathlib import Path

import pytest

from cli.broker import PORTS, BrokerSetup, EmbeddedBroker
from shared import subjects
from shared.bus import NatsBus
from shared.errors import BusUnavailable

PARENT = """
import asyncio, pathlib, sys
from cli.broker import EmbeddedBroker

async def main():
    async with EmbeddedBroker(pathlib.Path(sys.argv[1])) as broker:
        print(broker.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def ended(pid: int) -> None:
    """Returns when that process, which need not be a child of ours, has ended."""
    descriptor = os.pidfd_open(pid)
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, done.set)
    try:
        await asyncio.wait_for(done.wait(), 10)
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def listening_addresses(port: int) -> set[str]:
    """Local addresses with a listening TCP socket on this port, as /proc/net prints them."""
    lines = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    return {
        fields[1].split(":")[0] for fields in lines if fields[3] == "0A" and int(fields[1].split(":")[1], 16) == port
    }


async def test_it_listens_on_loopback_only_on_its_port(broker: EmbeddedBroker) -> None:
    assert broker.setup.port in PORTS
    assert listening_addresses(broker.setup.port) == {"0100007F"}


def test_secrets_lie_in_a_private_file_and_not_in_the_command(tmp_path: Path) -> None:
    setup = BrokerSetup.prepare(tmp_path)
    configs = setup.configs.values()
    passwords = {config.password for config in configs}
    assert len(passwords) == len(subjects.PERMISSIONS) and min(map(len, passwords)) >= 32
    path = Path(setup.command[-1])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    users = json.loads(path.read_text())["authorization"]["users"]
    assert {user["user"] for user in users} == set(subjects.PERMISSIONS)
    assert not any(password in " ".join(setup.command) for password in passwords)
    assert not any(password in config.url for config in configs for password in passwords)


async def test_a_restart_keeps_port_and_credentials(broker: EmbeddedBroker) -> None:
    config, pid = broker.config("router"), broker.pid
    await broker.kill()
    with pytest.raises(BusUnavailable):
        await NatsBus(config, "router").start()
    await broker.start()
    assert broker.pid != pid
    assert broker.config("router") == config
    bus = NatsBus(config, "router")
    await bus.start()
    await bus.close()


async def test_it_dies_with_its_parent_even_if_that_is_killed(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    broker_pid = int(await asyncio.wait_for(parent.stdout.readline(), 30))
    broker_ended = asyncio.create_task(ended(broker_pid))
    await asyncio.sleep(0)
    parent.send_signal(signal.SIGKILL)
    assert await parent.wait() == -signal.SIGKILL
    await broker_ended


async def test_a_port_that_is_taken_is_reported_with_the_servers_words(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path)
    async with broker:
        await broker.stop()
        taken = socket.create_server(("127.0.0.1", broker.setup.port))
        with taken, pytest.raises(BusUnavailable, match="address already in use"):
            await broker.start()


async def test_a_server_that_never_gets_ready_is_reported(tmp_path: Path) -> None:
    setup = BrokerSetup.prepare(tmp_path)
    with pytest.raises(BusUnavailable, match="not ready after"):
        await setup.wait_ready(timeout_s=0.05)


def test_a_second_server_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    BrokerSetup.prepare(tmp_path)
    with pytest.raises(FileExistsError):
        BrokerSetup.prepare(tmp_path)
