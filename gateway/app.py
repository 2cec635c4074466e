"""The gateway, put together. Read this first.

client --HTTP--> http/ ----+                            +--> router --> worker
service --NATS--> bus_front +--> pipeline --> owner ----+
                                    |            ^---------- frames, one per decode step
                                    +--> text/ (templates, tokenization)
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic
from typing import Final, NamedTuple

from aiohttp import web

from gateway.access_log import AccessLog
from gateway.admission.admission import Admission
from gateway.admission.waiting import WaitingLines
from gateway.attainment import Attainment
from gateway.bus_front import BusFront
from gateway.fleet.cluster import Cluster
from gateway.fleet.control import Control
from gateway.fleet.fleet_news import FleetNews
from gateway.fleet.models import Models
from gateway.fleet.orders import Orders
from gateway.http import server
from gateway.http.admin.feed import Feed, FeedRoutes
from gateway.http.admin.feed_state import Present
from gateway.http.admin.fleet import FleetRoutes
from gateway.http.admin.log_level import LogLevelRoutes
from gateway.http.admin.models import AdminModelRoutes
from gateway.http.anthropic.routes import MessagesRoutes
from gateway.http.auth import authentication
from gateway.http.connections import Connections
from gateway.http.dashboard import DashboardRoutes, load_assets
from gateway.http.description import DescriptionRoutes
from gateway.http.metrics import MetricsRoutes
from gateway.http.model_access import ModelAccess
from gateway.http.openai.embeddings import EmbeddingsRoutes
from gateway.http.openai.routes import GenerateRoutes
from gateway.http.rate_limits import rate_limit_headers
from gateway.http.responses_api.routes import ResponsesRoutes
from gateway.http.status import StatusRoutes
from gateway.http.tokenize import TokenizeRoutes
from gateway.http.traces import trace_header, tracing
from gateway.metrics import GatewayMetrics
from gateway.output.opening import Opening
from gateway.output.readers import Readers
from gateway.pipeline import Pipeline
from gateway.request.call import Call
from gateway.request.preparation import Preparation
from gateway.request.prompts import Prompts
from gateway.sequences.ledger import Ledger
from gateway.sequences.owner import Owner
from gateway.state_metrics import Watched, watch
from gateway.tenants.keys import open_keys
from gateway.tenants.usage import Usages
from gateway.text.pool import TextPool
from shared.aliases import aliases
from shared.bus import Bus
from shared.catalogue import open_catalogue
from shared.config import Config
from shared.errors import RequestError
from shared.following import Entries, Follower
from shared.ids import ModelName, OwnerId, new_id
from shared.levels import Levels
from shared.log_control import levels_from
from shared.messages import RequestFinished
from shared.telemetry import Registry
from shared.tracing import Tracer

_log = logging.getLogger(__name__)

SHUTDOWN_GRACE_S: Final = 1.5  # for running requests to end, and then to say that they were ended
_TOMBSTONES_PER_REQUEST: Final = 4


class Gateway(NamedTuple):
    """A gateway that serves."""

    owner_id: OwnerId
    host: str
    port: int
    pipeline: Pipeline
    admission: Admission
    connections: Connections
    http: web.Application


@asynccontextmanager
async def open_gateway(
    config: Config, bus: Bus, clock: Callable[[], float] = monotonic, tracer: Tracer | None = None
) -> AsyncIterator[Gateway]:
    """Serves until the block is left. Raises ConfigError, ModelError, BusUnavailable."""
    settings = config.gateway
    owner_id = OwnerId(new_id("gateway"))
    cluster = Cluster(config.router.worker_dead_s)
    ledger = Ledger(owner_id, config.router.worker_dead_s, _TOMBSTONES_PER_REQUEST * settings.max_requests)
    registry = Registry(aliases(vllm=config.telemetry.vllm_metrics))
    registry.attach(asyncio.get_running_loop())
    registry.describe_process("gateway")
    metrics = GatewayMetrics(registry)
    texts = TextPool(settings.template_timeout_s, settings.max_requests)
    catalogue = open_catalogue(config)
    levels, attainment = Levels(config.slo), Attainment()
    usages = Usages()
    access_log = AccessLog(is_on=config.telemetry.access_log)

    def keep_tenants(tenants: set[str]) -> None:
        usages.keep(tenants)
        metrics.keep_tenants(tenants)

    keys = open_keys(config, keep_tenants)

    def forget(name: ModelName) -> None:
        attainment.forget(name)
        metrics.forget(name)

    def finished(event: RequestFinished) -> None:
        metrics.finished(event)
        access_log.finished(event)

    def refused(call: Call, error: RequestError) -> None:
        metrics.refused(call.tenant.id, error.code)
        access_log.refused(call, error, clock())

    models = Models(catalogue, cluster, texts.spell, texts.warm, forget)

    def follow(entries: Entries) -> None:
        levels.follow({name: entry.level for name, entry in entries.items()})
        models.follow(entries)

    follower = Follower(bus, config.cache_dir, follow)
    for name in levels.without_model(catalogue):
        _log.warning("slo.models: there is no model %r yet", name)
    owner = Owner(owner_id, bus, ledger, cluster, clock, finished, models.ready)
    prompts = Prompts(texts)
    lines = WaitingLines(settings.max_waiting_of_model, settings.max_waiting_of_tenant, settings.max_ttft_s)
    admission = Admission(lines, usages, settings.max_requests, clock)
    opening = Opening(owner, attainment, metrics, clock)
    pipeline = Pipeline(admission, Preparation(models, prompts), opening, levels, clock, refused)
    readers = Readers(admission.readers, settings.max_unread_tokens)
    bus_front = BusFront(owner_id, bus, pipeline, settings.max_requests, clock, tracer)
    status = StatusRoutes(models, levels, attainment, cluster, bus, clock)
    http = server.build(settings, authentication(keys), GenerateRoutes(pipeline, settings, clock), status)
    access = ModelAccess(models, usages, clock)
    TokenizeRoutes(models, access, prompts).add_to(http)
    EmbeddingsRoutes(access).add_to(http)
    ResponsesRoutes(pipeline, settings, clock).add_to(http)
    MessagesRoutes(pipeline, access, prompts, settings, clock).add_to(http)
    DescriptionRoutes().add_to(http)
    DashboardRoutes(load_assets()).add_to(http)
    MetricsRoutes(registry, metrics, cluster).add_to(http)
    control = Control(bus, follower.hear)
    AdminModelRoutes(control, Orders(bus, models, cluster, clock), models, levels, cluster).add_to(http)
    FleetRoutes(control, cluster, FleetNews(bus), admission.in_flight, settings, clock).add_to(http)
    feed = Feed(bus, Present(owner_id, admission, lines, models, levels, attainment, cluster), clock)
    FeedRoutes(feed, settings).add_to(http)
    LogLevelRoutes(bus).add_to(http)
    http.on_response_prepare.append(rate_limit_headers(usages, clock))
    if tracer is not None:
        http.middlewares.insert(0, tracing(tracer, clock))
        http.on_response_prepare.append(trace_header)
    async with AsyncExitStack() as stack:
        bound = stack.enter_context(server.bind(settings))
        await bus.start()
        stack.push_async_callback(bus.close)
        for part in (
            levels_from(bus, "gateway", owner_id),
            keys.running(),
            texts.running(),
            follower.running(),
            models.running(),
            owner.running(),
            readers.running(),
            feed.running(),
            bus_front.running(),
        ):
            await stack.enter_async_context(part)
        connections = await stack.enter_async_context(server.serving(settings, http, bound, SHUTDOWN_GRACE_S))
        watch(registry, Watched(bus, admission, lines, owner, ledger, attainment, texts, connections, clock))
        stack.push_async_callback(admission.drain, SHUTDOWN_GRACE_S, owner.end_all)
        host, port = bound.getsockname()[:2]
        yield Gateway(owner_id, host, port, pipeline, admission, connections, http)
