"""What `kottos serve` runs, as data: the services in the order of their start, each with its own configuration."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from cli.supervisor import Service
from shared.config import MAX_PORT, BusConfig, Config, KeysConfig, TelemetryConfig, to_environ
from shared.errors import ConfigError


def service_groups(
    config: Config, buses: Mapping[str, BusConfig], environ: Mapping[str, str], folder: Path
) -> Sequence[Sequence[Service]]:
    """Router, host model cache, workers, gateway; each sees the credentials of its own bus user alone, and none but the
    gateway API keys.

    `buses` is by bus user; `environ` has no variables of ours; `folder` is this run's.
    """
    workers = [f"worker-{i}" for i in range(config.worker.num_workers)]
    metrics = {name: _metrics_at(config.telemetry, i) for i, name in enumerate(["router", *workers])}
    socket = config.worker.host_cache_socket or str(folder / "host_cache.socket")

    def service(name: str, module: str, user: str | None) -> Service:
        worker = replace(config.worker, id=name if user == "worker" else "", host_cache_socket=socket)
        own = replace(config, bus=buses[user] if user else BusConfig(), worker=worker)
        own = replace(own, telemetry=metrics.get(name, _without_metrics(config.telemetry)))
        if user != "gateway":
            own = replace(own, keys=KeysConfig())
        return Service(name, [sys.executable, "-P", "-m", module], {**environ, **to_environ(own)})

    return [
        [service("router", "router", "router")],
        [service("host-cache", "gpu_worker.host_cache", None)],
        [service(name, "gpu_worker", "worker") for name in workers],
        [service("gateway", "gateway", "gateway")],
    ]


def _metrics_at(config: TelemetryConfig, index: int) -> TelemetryConfig:
    """Of the service with this index; a gateway has its metrics beside its API."""
    port = config.metrics_port + index if config.metrics_port else 0
    if port > MAX_PORT:
        raise ConfigError(f"telemetry.metrics_port {config.metrics_port}: too high, it counts up to {port}")
    return replace(config, metrics_host=config.metrics_host or "127.0.0.1", metrics_port=port)


def _without_metrics(config: TelemetryConfig) -> TelemetryConfig:
    return replace(config, metrics_host="", metrics_port=0)
