"""How a worker's memory is divided, from its configuration and the machine's limit. Impossible sums refuse to start."""

from dataclasses import dataclass
from typing import Final

from shared.config import WorkerConfig
from shared.errors import ConfigError
from shared.units import format_size

_KV_SHARE: Final = 0.2  # of the device's memory, or of the machine's where they are one
_MAX_DEFAULT_KV_BYTES: Final = 4 << 30
_HOST_SHARE: Final = 0.5


@dataclass(frozen=True, slots=True)
class Budget:
    unified: bool  # weights stay in the host cache
    weight_bytes: int  # of the device's weight region; 0 when unified
    kv_bytes: int
    host_bytes: int  # of the host model cache


def plan_budget(config: WorkerConfig, limit_bytes: int) -> Budget:
    """limit_bytes: what all workers of this machine may use together. Raises ConfigError with the numbers."""
    own_bytes = limit_bytes // config.num_workers
    unified = config.device_memory_bytes == 0
    device_bytes = own_bytes if unified else config.device_memory_bytes
    kv_bytes = config.kv_memory_bytes or min(int(device_bytes * _KV_SHARE), _MAX_DEFAULT_KV_BYTES)
    weight_bytes = 0 if unified else device_bytes - kv_bytes
    host_bytes = config.host_memory_bytes or int(own_bytes * _HOST_SHARE)
    if not unified and weight_bytes <= 0:
        raise ConfigError(
            f"worker.kv_memory_bytes = {format_size(kv_bytes)} leaves nothing for weights in "
            f"worker.device_memory_bytes = {format_size(device_bytes)}"
        )
    # Unified workers of one host share the cached blobs' pages, so these count once for all of them.
    total_bytes = (kv_bytes + weight_bytes) * config.num_workers + host_bytes
    if total_bytes > limit_bytes:
        raise ConfigError(
            f"{format_size(total_bytes)} are configured, this machine allows {format_size(limit_bytes)}: lower "
            "worker.device_memory_bytes, worker.kv_memory_bytes, worker.host_memory_bytes or worker.num_workers"
        )
    return Budget(unified, weight_bytes, kv_bytes, host_bytes)
