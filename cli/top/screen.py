"""The live screen: what the feed says, drawn a few times a second, and keys that change how."""

import asyncio
import contextlib
import copy
import time
from typing import Final

from rich.console import Console
from rich.live import Live

from cli.gateway_client import GatewayClient
from cli.top.keyboard import keys_to
from cli.top.render import render
from cli.top.view import View
from cli.top.watch import Disconnected, following

_DRAWN_S: Final = 0.25


class Screen:
    def __init__(self, client: GatewayClient, console: Console) -> None:
        self._client = client
        self._console = console
        self._view = View()
        self._frozen: View | None = None  # what is shown while it is paused
        self._frozen_at_s = 0.0
        self._is_over = False
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Until q. Raises Unreachable, Answered."""
        reading = asyncio.create_task(self._read())
        reading.add_done_callback(lambda _: self._changed.set())
        try:
            with self._live() as live, keys_to(self.on_key):
                while not self._is_over and not reading.done():
                    self._changed.clear()
                    self._draw(live)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_DRAWN_S):
                            await self._changed.wait()
        finally:
            reading.cancel()
            await asyncio.wait([reading])
        if not reading.cancelled() and (error := reading.exception()):
            raise error

    def on_key(self, key: str) -> None:
        shown = self._frozen or self._view
        match key:
            case "q":
                self._is_over = True
            case "p" | " ":
                self._frozen = None if self._frozen else copy.deepcopy(self._view)
                self._frozen_at_s = time.monotonic()
            case "+" | "=":
                shown.zoom(1)
            case "-":
                shown.zoom(-1)
            case "s":
                shown.next_model_order()
            case "r":
                shown.next_request_order()
        if self._frozen is not None:  # what was changed meanwhile stays afterwards
            self._view.span_s = shown.span_s
            self._view.model_order, self._view.request_order = shown.model_order, shown.request_order
        self._changed.set()

    async def _read(self) -> None:
        async for event in following(self._client):
            if isinstance(event, Disconnected):
                self._view.trouble = f"no connection, tries again: {event}"
            else:
                self._view.trouble = ""
                self._view.apply(event, time.monotonic())

    def _draw(self, live: Live) -> None:
        now_s = self._frozen_at_s if self._frozen else time.monotonic()
        width, height = self._console.size
        drawn = render(
            self._frozen or self._view,
            width,
            height,
            now_s,
            has_colours=self._console.color_system is not None,
            is_paused=self._frozen is not None,
        )
        live.update(drawn, refresh=True)

    def _live(self) -> Live:
        return Live(console=self._console, screen=True, auto_refresh=False, vertical_overflow="crop")
