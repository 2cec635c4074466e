"""The back end that a configuration names."""

from gpu_worker.device.base import Device
from gpu_worker.device.cpu import CpuDevice
from shared.errors import ConfigError


def open_device(name: str, *, unified: bool, link_bytes_per_s: float | None = None) -> Device:
    """Raises ConfigError for a device that has no back end."""
    if name != "cpu":
        raise ConfigError(f"worker.device: there is no back end for {name!r}")
    return CpuDevice(unified=unified, link_bytes_per_s=link_bytes_per_s)
