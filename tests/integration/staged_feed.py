"""The page on a server whose feed says what a test wants it to say."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, Final

import msgspec
from aiohttp import web

from gateway.fleet.cluster import ModelState
from gateway.http.admin.feed_objects import (
    FeedEvent,
    FeedKv,
    FeedMemory,
    FeedModel,
    FeedState,
    FeedStep,
    FeedSwitch,
    FeedTurn,
    FeedTurns,
    FeedWorker,
)
from gateway.http.dashboard import DashboardRoutes, load_assets
from gateway.http.status import SloObject
from shared.ids import Incarnation, ModelName, OwnerId, WorkerId

MIB: Final = 1 << 20
GATEWAY: Final = OwnerId("gateway-1")
WORKER: Final = WorkerId("worker-0")
_encoder: Final = msgspec.json.Encoder()


class StagedFeed:
    """Its clock began 1,000 s ago."""

    def __init__(self) -> None:
        self.url = ""
        self.models: tuple[str, ...] = ()  # as /v1/models has them
        self.is_away = False  # it answers 503
        self._began_at_s = monotonic() - 1000
        self._watchers: list[asyncio.Queue[bytes | None]] = []
        self._watched = asyncio.Condition()

    @property
    def now_s(self) -> float:
        return monotonic() - self._began_at_s

    async def say(self, *events: FeedEvent) -> None:
        """To whoever reads, once somebody does."""
        async with asyncio.timeout(10), self._watched:
            await self._watched.wait_for(lambda: self._watchers)
        for event in events:
            for watcher in self._watchers:
                watcher.put_nowait(b"data: %b\n\n" % _encoder.encode(event))

    def hang_up(self) -> None:
        for watcher in self._watchers:
            watcher.put_nowait(None)

    def state(self, **changes: Any) -> FeedState:
        """Of two models on one worker, unless it is said otherwise."""
        known: dict[str, Any] = {
            "at_s": self.now_s,
            "gateway": GATEWAY,
            "models": [model("alpha"), model("beta")],
            "workers": [worker({"alpha": 268 * MIB})],
            "requests": [],
            "num_requests": 0,
            "num_viewers": 1,
        }
        return FeedState(**known | changes)

    async def feed(self, request: web.Request) -> web.StreamResponse:
        if self.is_away:
            raise web.HTTPServiceUnavailable
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b": listening\n\n")
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        async with self._watched:
            self._watchers.append(queue)
            self._watched.notify_all()
        try:
            while (data := await queue.get()) is not None:
                await response.write(data)
        finally:
            self._watchers.remove(queue)
        return response

    async def list_models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": name} for name in self.models]})


@asynccontextmanager
async def staged_feed() -> AsyncIterator[StagedFeed]:
    stage = StagedFeed()
    app = web.Application()
    DashboardRoutes(load_assets()).add_to(app)
    app.add_routes([web.get("/admin/feed", stage.feed), web.get("/v1/models", stage.list_models)])
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    stage.url = f"http://{host}:{port}"
    yield stage
    stage.hang_up()
    await runner.cleanup()


def model(name: str, state: ModelState = "resident", **changes: Any) -> FeedModel:
    known: dict[str, Any] = {
        "progress": None,
        "pinned": False,
        "priority": 0,
        "waiting": 0,
        "running": 0,
        "predicted_ttft_s": None,
        "attainment": None,
        "tokens_per_s": 0.0,
        "slo": SloObject(10.0, 0.1),
    }
    return FeedModel(ModelName(name), state, **known | changes)


def worker(device: Mapping[str, int], name: WorkerId = WORKER) -> FeedWorker:
    """device: bytes of each model there."""
    weights = {ModelName(model): size for model, size in device.items()}
    return FeedWorker(
        name,
        Incarnation("life-1"),
        draining=False,
        policy="deadline",
        device=FeedMemory(608 * MIB, weights),
        host=FeedMemory(None, weights),
        kv=FeedKv(38 * MIB, 152 * MIB),
        tokens_per_s=41.0,
        switches_per_s=3.5,
    )


def turns(name: WorkerId, *each: FeedTurn) -> FeedTurns:
    return FeedTurns(name, list(each))


def turn(
    name: str, began_at_s: float, steps: Sequence[tuple[float, float, int, int]], switch: FeedSwitch | None = None
) -> FeedTurn:
    """steps: offset, duration, tokens of prompts, tokens of outputs."""
    return FeedTurn(ModelName(name), began_at_s, switch, [FeedStep(*step) for step in steps])
