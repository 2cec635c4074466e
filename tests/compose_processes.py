"""Runs the services of a compose file as processes of this machine, where no container engine is.

Commands, environment, secrets, order, health checks and restart rules are the file's. What containers would give is
put in place: host names and 0.0.0.0 become 127.0.0.1, exposed ports free ones, mounts links in a folder of the service.
Not shown by it: images, users, limits of memory, read-only file systems.
"""

import asyncio
import contextlib
import os
import re
import signal
import socket
import sysconfig
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from shared.child import dies_with_parent

_VARIABLE: Final = re.compile(r"\$\{(\w+):-([^}]*)\}")
_CHECK_PAUSE_S: Final = 0.2
_RESTART_PAUSE_S: Final = 0.1
_STOP_S: Final = 10.0


def read_compose(file: Path, variables: Mapping[str, str], profiles: Sequence[str] = ()) -> dict[str, Any]:
    """As `docker compose config` reads it, as far as this file goes: ${NAME:-default}, anchors and profiles."""
    compose: dict[str, Any] = _filled(yaml.safe_load(file.read_text()), variables)
    services = compose["services"].items()
    kept = {name: s for name, s in services if not s.get("profiles") or set(s["profiles"]) & set(profiles)}
    return compose | {"services": kept}


def _filled(node: Any, variables: Mapping[str, str]) -> Any:
    match node:
        case str():
            return _VARIABLE.sub(lambda match: variables.get(match[1]) or match[2], node)
        case dict():
            return {key: _filled(value, variables) for key, value in node.items()}
        case list():
            return [_filled(value, variables) for value in node]
        case _:
            return node


@dataclass
class Service:
    name: str
    command: list[str]
    environ: dict[str, str]
    check: list[str]
    needs: list[str]
    restarts: bool
    log: Path
    ports: dict[int, int]  # as the file has it -> as it is here
    is_healthy: asyncio.Event = field(default_factory=asyncio.Event)
    process: asyncio.subprocess.Process | None = None
    num_starts: int = 0


class Stack:
    def __init__(self, compose: Mapping[str, Any], folder: Path, base: Path, volumes: Mapping[str, Path]) -> None:
        """base: the compose file's folder. volumes: where named volumes are; others get a folder of their own."""
        self._folder = folder
        self._base = base
        self._volumes = volumes
        self._compose = compose
        specs: Mapping[str, Any] = compose["services"]
        self._ports = {name: {int(port): free_port() for port in specs[name].get("expose", ())} for name in specs}
        self.services = {name: self._service(name, spec) for name, spec in specs.items()}

    @asynccontextmanager
    async def running(self, timeout_s: float) -> AsyncIterator["Stack"]:
        """Entered when all are healthy; raises RuntimeError with their logs when they are not in time."""
        tasks = [asyncio.create_task(self._keep(service)) for service in self.services.values()]
        try:
            try:
                async with asyncio.timeout(timeout_s):
                    for service in self.services.values():
                        await service.is_healthy.wait()
            except TimeoutError:
                raise RuntimeError(self.logs()) from None
            yield self
        finally:
            await self._stop(tasks)

    def kill(self, name: str) -> None:
        """As a crash would end it."""
        process = self.services[name].process
        assert process is not None
        self.services[name].is_healthy.clear()
        os.killpg(process.pid, signal.SIGKILL)

    def logs(self) -> str:
        return "\n".join(
            f"--- {s.name}\n{s.log.read_text(errors='replace')[-2000:]}"
            for s in self.services.values()
            if s.log.exists()
        )

    async def _keep(self, service: Service) -> None:
        """Starts it when what it needs is healthy, and again by its restart rule."""
        for needed in service.needs:
            await self.services[needed].is_healthy.wait()
        while True:
            with service.log.open("ab") as log:
                service.process = await asyncio.create_subprocess_exec(
                    *service.command, env=service.environ, cwd=self._folder, stdout=log, stderr=log,
                    stdin=asyncio.subprocess.DEVNULL, start_new_session=True, preexec_fn=dies_with_parent(),
                )  # fmt: skip
            service.num_starts += 1
            checking = asyncio.create_task(self._check(service))
            try:
                await service.process.wait()
            finally:
                checking.cancel()
            if not service.restarts:
                return
            await asyncio.sleep(_RESTART_PAUSE_S)

    async def _check(self, service: Service) -> None:
        """Until it is healthy; as the file's health check does, over and over."""
        while True:
            check = await asyncio.create_subprocess_exec(
                *service.check, env=service.environ, cwd=self._folder,
                stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            try:
                if await check.wait() == 0:
                    service.is_healthy.set()
                    return
            except asyncio.CancelledError:
                with contextlib.suppress(ProcessLookupError):
                    check.kill()
                raise
            await asyncio.sleep(_CHECK_PAUSE_S)

    async def _stop(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        """In the reverse order, so that nobody misses what it needs."""
        for service in self.services.values():
            service.restarts = False
        for service in reversed(self.services.values()):
            if service.process is not None and service.process.returncode is None:
                service.process.terminate()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_STOP_S):
                        await service.process.wait()
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(service.process.pid, signal.SIGKILL)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _service(self, name: str, spec: Mapping[str, Any]) -> Service:
        root = self._folder / name
        root.mkdir()
        targets = [self._mount(root, volume) for volume in spec.get("volumes", ())]
        targets += [self._mount_secret(root, secret) for secret in spec.get("secrets", ())]

        def here(text: object) -> str:
            moved = re.sub(f"({'|'.join(map(re.escape, targets))})", rf"{root}\1", str(text)) if targets else str(text)
            moved = moved.replace("0.0.0.0", "127.0.0.1")
            for other, ports in self._ports.items():
                for port, free in ports.items():
                    moved = re.sub(rf"(?<=//){other}:{port}\b", f"127.0.0.1:{free}", moved)
            for port, free in self._ports[name].items():
                moved = re.sub(rf"(?<![\d.]){port}\b", str(free), moved)
            return moved

        scripts = sysconfig.get_path("scripts")
        environ = {key: here(value) for key, value in spec.get("environment", {}).items()}
        environ |= {"PATH": f"{scripts}:{os.environ['PATH']}", "HOME": str(root), "OMP_NUM_THREADS": "1"}
        kind, *check = spec["healthcheck"]["test"]
        assert kind == "CMD"
        assert spec["restart"] == "unless-stopped"
        assert {need["condition"] for need in spec.get("depends_on", {}).values()} <= {"service_healthy"}
        return Service(
            name=name,
            command=[here(word) for word in spec["command"]],
            environ=environ,
            check=[here(word) for word in check],
            needs=list(spec.get("depends_on", ())),
            restarts=True,
            log=self._folder / f"{name}.log",
            ports=self._ports[name],
        )

    def _mount(self, root: Path, volume: str) -> str:
        source, target, *_ = volume.split(":")
        if source.startswith((".", "/")):
            path = (self._base / source).resolve()
        else:
            path = self._volumes.get(source, self._folder / "volumes" / source)
            path.mkdir(parents=True, exist_ok=True)
        return _link(root, target, path)

    def _mount_secret(self, root: Path, secret: str | Mapping[str, str]) -> str:
        asked = {"source": secret} if isinstance(secret, str) else secret
        file = self._compose["secrets"][asked["source"]]["file"]
        return _link(root, asked.get("target", f"/run/secrets/{asked['source']}"), (self._base / file).resolve())


def _link(root: Path, target: str, path: Path) -> str:
    link = root / target.lstrip("/")
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(path)
    return target


def free_port() -> int:
    with socket.socket() as candidate:
        candidate.bind(("127.0.0.1", 0))
        return int(candidate.getsockname()[1])
