"""The CPU back end: the device is ordinary memory, copies are real copies, kernels are torch's."""

import torch
from torch import Tensor, nn

from gpu_worker.device.base import KvLayout
from gpu_worker.device.cpu_attention import CpuKvMemory

_ALIGN_BYTES = 2 << 20


class Done:
    """The event of work that has already completed."""

    def done(self) -> bool:
        return True

    def wait(self) -> None:
        return None


class CpuDevice:
    name = "cpu"
    torch_device = torch.device("cpu")
    layout = "plain"
    block_tokens = 16

    def __init__(self, *, unified: bool) -> None:
        self.unified = unified

    def allocate(self, num_bytes: int) -> Tensor:
        raw = torch.empty(num_bytes + _ALIGN_BYTES, dtype=torch.uint8)
        skip_bytes = -raw.data_ptr() % _ALIGN_BYTES
        return raw[skip_bytes : skip_bytes + num_bytes]

    def copy(self, destination: Tensor, source: Tensor) -> Done:
        destination.copy_(source)
        return Done()

    def open_kv(self, region: Tensor, layout: KvLayout) -> CpuKvMemory:
        return CpuKvMemory(region, layout)

    def optimize(self, module: nn.Module) -> None:
        return None
