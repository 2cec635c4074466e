"""GET /metrics, GET /metrics/targets, and the count of all answers."""

import asyncio
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.fleet.cluster import Cluster
from gateway.metrics import GatewayMetrics
from shared.telemetry import CONTENT_TYPE, Registry

_NO_ROUTE: Final = "none"
_LEFT: Final = "left"  # the client did, before the answer was complete


class Target(msgspec.Struct, frozen=True):
    """As Prometheus' HTTP service discovery has it (https://prometheus.io/docs/prometheus/latest/http_sd/)."""

    targets: tuple[str, ...]  # host:port
    labels: dict[str, str]


class MetricsRoutes:
    def __init__(self, registry: Registry, metrics: GatewayMetrics, cluster: Cluster) -> None:
        self._registry = registry
        self._metrics = metrics
        self._cluster = cluster

    def add_to(self, app: web.Application) -> None:
        app.middlewares.insert(0, self._middleware())  # outermost: it sees the status that the client gets
        app.add_routes([web.get("/metrics", self.metrics), web.get("/metrics/targets", self.targets)])

    def _middleware(self) -> Middleware:
        @web.middleware
        async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
            resource = request.match_info.route.resource
            route, status = resource.canonical if resource else _NO_ROUTE, _LEFT
            try:
                response = await handler(request)
                status = f"{response.status // 100}xx"
                return response
            finally:
                self._metrics.answered(route, status)

        return count

    async def metrics(self, request: web.Request) -> web.Response:
        text = await asyncio.to_thread(self._registry.render)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE})

    async def targets(self, request: web.Request) -> web.Response:
        """This gateway, and every worker and router that says where its metrics are."""
        here = Target((request.host,), {"service": "gateway"})
        found = [
            Target((address,), {"service": service, "name": name})
            for service, name, address in self._cluster.metrics_addresses()
        ]
        return web.Response(body=msgspec.json.encode([here, *found]), content_type="application/json")
