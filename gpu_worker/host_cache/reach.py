"""How a worker comes to a host model cache: by the host's socket, or by a child process of its own."""

import asyncio
import contextlib
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from pathlib import Path
from typing import Protocol

from msgspec.structs import replace

from gpu_worker.host_cache.channel import connect
from shared.child import dies_with_parent
from shared.config import BusConfig, Config, to_environ


class Reach(Protocol):
    async def connect(self) -> socket.socket:
        """A new connection, after the last one ended. Raises OSError."""

    async def close(self) -> None:
        """Ends what was started for it."""


class SocketReach:
    """The cache that all workers of the host share; others start it again when it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path.expanduser()

    async def connect(self) -> socket.socket:
        return connect(self._path)

    async def close(self) -> None:
        return None


class ChildReach:
    """For a worker alone. The child ends with the connection, and with its parent however that ends."""

    def __init__(self, config: Config) -> None:
        self._config = replace(config, bus=BusConfig())  # it needs no credentials
        self._child: Process | None = None

    async def connect(self) -> socket.socket:
        await self.close()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("KOTTOS_")}
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._child = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-m", "gpu_worker.host_cache", "--connection", str(theirs.fileno())),
                    env=inherited | to_environ(self._config),
                    stdin=DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,  # a terminal's Ctrl-C is for the worker
                    preexec_fn=dies_with_parent(),
                )
            except BaseException:
                ours.close()
                raise
        return ours

    async def close(self) -> None:
        if self._child is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._child.kill()  # it has no state that a worker does not have
        await self._child.wait()
        self._child = None
