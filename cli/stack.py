"""What `kottos serve` runs, as data: the services in the order of their start, each with its own configuration."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from cli.supervisor import Service
from shared.config import BusConfig, Config, to_environ


def service_groups(
    config: Config, buses: Mapping[str, BusConfig], environ: Mapping[str, str], folder: Path
) -> Sequence[Sequence[Service]]:
    """Router, host model cache, workers, gateway; each sees the credentials of its own bus user alone.

    `buses` is by bus user; `environ` has no variables of ours; `folder` is this run's.
    """
    socket = config.worker.host_cache_socket or str(folder / "host_cache.socket")

    def service(name: str, module: str, user: str | None) -> Service:
        worker = replace(config.worker, id=name if user == "worker" else "", host_cache_socket=socket)
        own = replace(config, bus=buses[user] if user else BusConfig(), worker=worker)
        return Service(name, [sys.executable, "-P", "-m", module], {**environ, **to_environ(own)})

    return [
        [service("router", "router", "router")],
        [service("host-cache", "gpu_worker.host_cache", None)],
        [service(f"worker-{i}", "gpu_worker", "worker") for i in range(config.worker.num_workers)],
        [service("gateway", "gateway", "gateway")],
    ]
