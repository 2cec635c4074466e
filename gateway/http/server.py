"""The routes, and the server that listens for them."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from gateway.http import errors
from gateway.http.openai.routes import GenerateRoutes
from gateway.http.status import StatusRoutes
from shared.config import GatewayConfig
from shared.errors import ConfigError

_BACKLOG: Final = 1024


def bind(config: GatewayConfig) -> socket.socket:
    """Raises ConfigError. Nobody is accepted until `serving`."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise ConfigError(
            f"gateway.host {config.host}, gateway.port {config.port}: {error.strerror}; free it or set another"
        ) from error
    return bound


def build(config: GatewayConfig, generate: GenerateRoutes, status: StatusRoutes) -> web.Application:
    app = web.Application(middlewares=[errors.middleware], client_max_size=config.max_body_bytes)
    app[errors.STYLES] = {}
    app.add_routes(
        [
            web.get("/health", status.health),
            web.get("/ready", status.ready),
            web.get("/v1/models", status.models),
            web.get("/v1/models/{model:.+}", status.model),
            web.post("/v1/chat/completions", generate.chat),
            web.post("/v1/completions", generate.completion),
        ]
    )
    return app


@asynccontextmanager
async def serving(app: web.Application, bound: socket.socket, grace_s: float) -> AsyncIterator[None]:
    """At the end, running requests have `grace_s` before they are cancelled."""
    # Without handler_cancellation a client that leaves while it waits is noticed only at the next write.
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=grace_s)
    await runner.setup()
    try:
        await web.SockSite(runner, bound, backlog=_BACKLOG).start()
        yield
    finally:
        await runner.cleanup()
