"""The routes, and the server that listens for them."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from gateway.http import connections, errors
from gateway.http.connections import Connections
from gateway.http.events import LAST_WORDS_S
from gateway.http.openai.routes import GenerateRoutes
from gateway.http.reading import BodyReader
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
        # A slow reader is ended by us, who say why, at the first write after its time-out; after that, by the kernel.
        connections.set_options(bound, config.write_timeout_s + config.keepalive_s + LAST_WORDS_S)
        bound.bind(address)
    except OSError as error:
        raise ConfigError(
            f"gateway.host {config.host}, gateway.port {config.port}: {error.strerror}; free it or set another"
        ) from error
    return bound


def build(
    config: GatewayConfig, authenticate: Middleware, generate: GenerateRoutes, status: StatusRoutes
) -> web.Application:
    app = web.Application(
        middlewares=[errors.middleware, authenticate, BodyReader(config).middleware()],
        client_max_size=config.max_body_bytes,
    )
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
async def serving(
    config: GatewayConfig, app: web.Application, bound: socket.socket, grace_s: float
) -> AsyncIterator[Connections]:
    """At the end, running requests have `grace_s` before they are cancelled."""
    # Without handler_cancellation a client that leaves while it waits is noticed only at the next write.
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=grace_s)
    await runner.setup()
    assert runner.server is not None
    try:
        accepted = Connections(runner.server, config, connections.make_room(config.max_connections))
        listener = await asyncio.get_running_loop().create_server(accepted, sock=bound, backlog=_BACKLOG)
        try:
            yield accepted
        finally:
            listener.close()
    finally:
        await runner.cleanup()
