"""A bus handler that keeps what it gets, for tests to wait on."""

import asyncio

from shared.messages import AnyMessage, Message


class Recorder:
    def __init__(self, reply: Message | None = None) -> None:
        self.messages: list[AnyMessage] = []
        self._reply = reply
        self._arrived = asyncio.Event()

    def __call__(self, message: AnyMessage) -> Message | None:
        self.messages.append(message)
        self._arrived.set()
        return self._reply

    async def wait_for(self, num_messages: int, timeout_s: float = 10.0) -> list[AnyMessage]:
        """All messages so far, once there are that many."""
        async with asyncio.timeout(timeout_s):
            while len(self.messages) < num_messages:
                self._arrived.clear()
                await self._arrived.wait()
        return self.messages
