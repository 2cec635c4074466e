"""The message bus. The only file that imports nats; `shared/memory_bus.py` is its in-memory twin."""

from collections.abc import Callable
from typing import Protocol

from shared.messages import AnyMessage, Message

# Called in the event loop for each message, one at a time per subscription; hands over at once and never blocks.
# What it returns is the reply, if the sender asked for one.
Handler = Callable[[AnyMessage], Message | None]


class Subscription(Protocol):
    async def unsubscribe(self) -> None: ...


class Bus(Protocol):
    """Typed publish/subscribe. Constructors do nothing; `start` connects, `close` drains and disconnects."""

    async def start(self) -> None:
        """Raises BusUnavailable when the server can't be reached or rejects the credentials."""

    async def close(self) -> None: ...

    async def publish(self, subject: str, message: Message) -> None:
        """Raises MessageTooLarge (nothing was sent) or BusUnavailable (the outgoing buffer is full or closed)."""

    async def request(self, subject: str, message: Message, timeout_s: float) -> AnyMessage:
        """Raises NoResponders at once when nobody listens, RequestTimeout, and what `publish` raises."""

    async def subscribe(self, subject: str, handler: Handler, *, queue: str = "") -> Subscription:
        """With a queue name, each message goes to one member of that group."""

    @property
    def connected(self) -> bool: ...

    def on_change(self, callback: Callable[[bool], None]) -> None:
        """Calls back with the new state whenever the connection is lost or is back."""
