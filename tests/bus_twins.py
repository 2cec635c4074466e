"""The two kinds of Bus behind one face, so that each contract case runs on both."""

import asyncio
from contextlib import AsyncExitStack
from typing import Protocol, TypeVar

import msgspec
import nats

from cli.broker import MAX_PAYLOAD_BYTES, EmbeddedBroker
from shared.bus import HEADER_MARGIN_BYTES, Bus, NatsBus
from shared.delivery import BusStats
from shared.memory_bus import MemoryBroker, MemoryBus
from tests.tcp_proxy import TcpProxy


class CountedBus(Bus, Protocol):
    @property
    def stats(self) -> BusStats: ...


class Link(Protocol):
    """A bus and the means to take it off its server and back."""

    @property
    def bus(self) -> CountedBus: ...

    async def cut(self) -> None: ...

    async def restore(self) -> None: ...


class Twin(Protocol):
    """Makes started buses of one kind that reach each other; `user` is one of subjects.PERMISSIONS."""

    limit_bytes: int

    def new(self, user: str) -> CountedBus:
        """Not started."""

    async def connect(self, user: str) -> CountedBus: ...

    async def link(self, user: str, *, start: bool = True) -> Link: ...

    async def inject(self, user: str, subject: str, payload: bytes) -> None: ...


class MemoryLink:
    def __init__(self, bus: MemoryBus) -> None:
        self.bus = bus

    async def cut(self) -> None:
        self.bus.disconnect()

    async def restore(self) -> None:
        self.bus.reconnect()


class MemoryTwin:
    def __init__(self, stack: AsyncExitStack) -> None:
        self.limit_bytes = 100_000
        self._stack = stack
        self._broker = MemoryBroker(max_payload_bytes=self.limit_bytes)

    def new(self, user: str) -> MemoryBus:
        return self._broker.connect(user)

    async def connect(self, user: str) -> MemoryBus:
        return await _started(self._stack, self.new(user))

    async def link(self, user: str, *, start: bool = True) -> MemoryLink:
        return MemoryLink(await _started(self._stack, self.new(user), start))

    async def inject(self, user: str, subject: str, payload: bytes) -> None:
        self._broker.inject(subject, payload)


class NatsLink:
    def __init__(self, bus: NatsBus, proxy: TcpProxy) -> None:
        self.bus = bus
        self.proxy = proxy

    async def cut(self) -> None:
        lost = state_changes_to(self.bus, False)
        await self.proxy.cut()
        await lost

    async def restore(self) -> None:
        back = state_changes_to(self.bus, True)
        await self.proxy.restore()
        await back


class NatsTwin:
    def __init__(self, stack: AsyncExitStack, broker: EmbeddedBroker) -> None:
        self.limit_bytes = MAX_PAYLOAD_BYTES - HEADER_MARGIN_BYTES
        self._stack = stack
        self._broker = broker

    def new(self, user: str) -> NatsBus:
        return NatsBus(self._broker.config(user), user)

    async def connect(self, user: str) -> NatsBus:
        return await _started(self._stack, self.new(user))

    async def link(self, user: str, *, start: bool = True) -> NatsLink:
        proxy = await self._stack.enter_async_context(TcpProxy(self._broker.setup.port))
        config = msgspec.structs.replace(self._broker.config(user), url=f"nats://127.0.0.1:{proxy.port}")
        return NatsLink(await _started(self._stack, NatsBus(config, user), start), proxy)

    async def inject(self, user: str, subject: str, payload: bytes) -> None:
        config = self._broker.config(user)
        client = await nats.connect(config.url, user=config.user, password=config.password)
        await client.publish(subject, payload)
        await client.drain()


def state_changes_to(bus: Bus, connected: bool, timeout_s: float = 20.0) -> "asyncio.Task[bool]":
    """To be awaited; listening starts now."""
    seen = asyncio.Event()
    bus.on_change(lambda now: seen.set() if now == connected else None)
    return asyncio.create_task(asyncio.wait_for(seen.wait(), timeout_s))


_AnyBus = TypeVar("_AnyBus", MemoryBus, NatsBus)


async def _started(stack: AsyncExitStack, bus: _AnyBus, start: bool = True) -> _AnyBus:
    if start:
        await bus.start()
    stack.push_async_callback(bus.close)
    return bus
