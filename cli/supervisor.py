"""Keeps processes alive: restarts what dies, says why, stops them in order, and leaves none behind.

Each process leads its own session, so that a terminal's Ctrl-C reaches the supervisor alone, and dies with the
supervisor even when that is killed (`shared/child.py`).
"""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from cli.backoff import Backoff
from shared.child import dies_with_parent
from shared.entry import EXIT_REFUSED

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Service:
    """What to run."""

    name: str
    command: Sequence[str]
    environ: Mapping[str, str]


@dataclass(frozen=True)
class _Fate:
    """What became of a process."""

    text: str
    refused: bool = False

    def __str__(self) -> str:
        return self.text


class Supervisor:
    """Owns the processes it starts; groups of them stop in the reverse of the order in which they were started."""

    def __init__(self, *, stop_timeout_s: float = 10.0, new_backoff: Callable[[], Backoff] = Backoff) -> None:
        self._stop_timeout_s = stop_timeout_s
        self._new_backoff = new_backoff
        self._groups: list[list[_Keeper]] = []
        self._refused = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def start(self, services: Sequence[Service]) -> None:
        """Starts a group and keeps it running; returns at once."""
        self._groups.append([_Keeper(service, self._new_backoff(), self._refused) for service in services])
        for keeper in self._groups[-1]:
            keeper.start()

    async def refused(self) -> None:
        """Returns once a service has refused its configuration: starting it again would change nothing."""
        await self._refused.wait()

    async def stop(self) -> None:
        """Group by group: SIGTERM, then SIGKILL for what is left after the time limit."""
        while self._groups:
            await asyncio.gather(*(keeper.stop(self._stop_timeout_s) for keeper in self._groups[-1]))
            self._groups.pop()

    def kill(self) -> None:
        """Kills everything now, for good; a `stop` under way then ends at once."""
        for group in self._groups:
            for keeper in group:
                keeper.end(signal.SIGKILL)

    def pids(self) -> dict[str, int]:
        """Of the processes that run now, by name."""
        return {k.service.name: k.pid for group in self._groups for k in group if k.pid is not None}


class _Keeper:
    """One process at a time: the first and those that replace it."""

    def __init__(self, service: Service, backoff: Backoff, refused: asyncio.Event) -> None:
        self.service = service
        self.pid: int | None = None  # while it runs
        self._backoff = backoff
        self._refused = refused
        self._end_signal: signal.Signals | None = None
        self._ending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep(), name=f"keep {self.service.name}")

    def end(self, end_signal: signal.Signals) -> None:
        """Ends the process with this signal, also one that is just being started, and lets none follow."""
        self._end_signal = end_signal
        self._ending.set()
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, end_signal)

    async def stop(self, timeout_s: float) -> None:
        if self._task is None:
            return
        if self._end_signal is None:
            self.end(signal.SIGTERM)
        done, _ = await asyncio.wait([self._task], timeout=timeout_s)
        if not done:
            _log.warning("%s did not stop within %g s and is killed", self.service.name, timeout_s)
            self.end(signal.SIGKILL)
        await self._task

    async def _keep(self) -> None:
        clock = asyncio.get_running_loop().time
        while not self._ending.is_set():
            started_at_s = clock()
            fate = await self._run_once()
            if self._ending.is_set():
                _log.info("%s %s", self.service.name, fate)
                return
            if fate.refused:
                self._refused.set()
                return
            delay_s = self._backoff.delay_s(clock() - started_at_s)
            _log.error("%s %s; starting it again in %.1f s", self.service.name, fate, delay_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._ending.wait()

    async def _run_once(self) -> _Fate:
        try:
            process = await asyncio.create_subprocess_exec(
                *self.service.command,
                env=self.service.environ,
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=dies_with_parent(),
            )
        except OSError as error:
            return _Fate(f"can't be started: {error}")
        self.pid = process.pid
        try:
            _log.info("%s started as process %d", self.service.name, process.pid)
            if self._end_signal is not None:
                self.end(self._end_signal)
            return _fate(await process.wait())
        finally:
            self.pid = None
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its own children


def _fate(return_code: int) -> _Fate:
    if return_code >= 0:
        return _Fate(f"ended with exit code {return_code}", refused=return_code == EXIT_REFUSED)
    try:
        return _Fate(f"was ended by {signal.Signals(-return_code).name}")
    except ValueError:  # a real-time signal
        return _Fate(f"was ended by signal {-return_code}")
