"""How a worker's memory is divided, from its configuration and the machine's limit. Impossible sums refuse to start."""

from dataclasses import dataclass
from typing import Final

from shared.config import Config, WorkerConfig
from shared.errors import ConfigError
from shared.units import format_size

_KV_SHARE: Final = 0.2  # of the device's memory, or of the machine's where they are one
_MAX_DEFAULT_KV_BYTES: Final = 4 << 30
_HOST_SHARE: Final = 0.5  # of what devices leave
_HOST_KV_SHARE: Final = 0.25  # of what the host cache leaves then, for all workers


@dataclass(frozen=True, slots=True)
class Budget:
    unified: bool  # weights stay in the host cache
    weight_bytes: int  # of the device's weight region; 0 when unified
    kv_bytes: int
    host_bytes: int  # of the host model cache
    host_kv_bytes: int  # of KV that lost its place on the device


def check_runnable(config: Config, limit_bytes: int) -> None:
    """Raises ConfigError when this machine or version can't run it."""
    if config.worker.device == "cuda":
        raise ConfigError("worker.device: the CUDA back end has not landed yet; use cpu")
    plan_budget(config.worker, limit_bytes)


def plan_budget(config: WorkerConfig, limit_bytes: int) -> Budget:
    """limit_bytes: what all workers of this machine may use together. Raises ConfigError with the numbers."""
    unified = config.device_memory_bytes == 0
    device_bytes = limit_bytes // config.num_workers if unified else config.device_memory_bytes
    kv_bytes = config.kv_memory_bytes or min(int(device_bytes * _KV_SHARE), _MAX_DEFAULT_KV_BYTES)
    weight_bytes = 0 if unified else device_bytes - kv_bytes
    if not unified and weight_bytes <= 0:
        raise ConfigError(
            f"worker.kv_memory_bytes = {format_size(kv_bytes)} leaves nothing for weights in "
            f"worker.device_memory_bytes = {format_size(device_bytes)}"
        )
    left_bytes = limit_bytes - (kv_bytes + weight_bytes + config.host_kv_memory_bytes) * config.num_workers
    # The workers of a host map the same pages of a blob, so the cache counts once for all of them.
    host_bytes = config.host_memory_bytes or int(left_bytes * _HOST_SHARE)
    if host_bytes > left_bytes or left_bytes <= 0:
        total_bytes = limit_bytes - left_bytes + config.host_memory_bytes
        raise ConfigError(
            f"{format_size(total_bytes)} are configured, this machine allows {format_size(limit_bytes)}: lower "
            "worker.device_memory_bytes, worker.kv_memory_bytes, worker.host_memory_bytes, worker.host_kv_memory_bytes "
            "or worker.num_workers"
        )
    spare_bytes = int((left_bytes - host_bytes) * _HOST_KV_SHARE) // config.num_workers
    host_kv_bytes = config.host_kv_memory_bytes or min(kv_bytes, spare_bytes)
    return Budget(unified, weight_bytes, kv_bytes, host_bytes, host_kv_bytes)
