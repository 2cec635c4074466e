"""The host model cache: imported blobs in host memory, within a budget.

A blob is a private mapping of its file, read in full when it is loaded: workers of one host share the page cache's
copy, and a crash leaves nothing behind.
"""

import mmap
import os
from collections import OrderedDict
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from shared.errors import ConfigError, ModelError
from shared.ids import ModelName

_READ_BYTES: Final = 64 << 20  # few enough pages that torch starts no threads for them


class HostCache:
    """Bounded by bytes; the least recently used blob goes first."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._blobs: OrderedDict[ModelName, Tensor] = OrderedDict()  # least recently used first

    @property
    def used_bytes(self) -> int:
        return sum(blob.numel() for blob in self._blobs.values())

    def __contains__(self, model: object) -> bool:
        return model in self._blobs

    def get(self, model: ModelName) -> Tensor | None:
        """[blob_bytes] uint8, host, or None when it has to be loaded."""
        if model in self._blobs:
            self._blobs.move_to_end(model)
        return self._blobs.get(model)

    def check_fits(self, model: ModelName, num_bytes: int) -> None:
        """Raises ConfigError for a model that could never be cached."""
        if num_bytes > self._budget_bytes:
            raise ConfigError(
                f"model {model!r} needs {num_bytes} bytes of weights, the host model cache has {self._budget_bytes}: "
                "raise worker.host_memory_bytes"
            )

    def has_room(self, num_bytes: int) -> bool:
        """Whether they fit beside all that is cached."""
        return self.used_bytes + num_bytes <= self._budget_bytes

    def make_room(self, num_bytes: int) -> list[ModelName]:
        """Evicts until `num_bytes` more fit, at most the budget; returns the evicted, whose views must be dropped."""
        evicted = []
        while not self.has_room(num_bytes):
            model, _ = self._blobs.popitem(last=False)
            evicted.append(model)
        return evicted

    def put(self, model: ModelName, blob: Tensor) -> None:
        """blob: from `map_blob`; room was made before."""
        self._blobs[model] = blob


def map_blob(path: Path, num_bytes: int) -> Tensor:
    """Reads a blob file into memory: [num_bytes] uint8, host, page-aligned. Blocks; raises ModelError by name."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise ModelError(f"{path} can't be read: {error.strerror}") from error
    try:
        size_bytes = os.fstat(descriptor).st_size
        if size_bytes != num_bytes:
            raise ModelError(f"{path} has {size_bytes} bytes where its manifest says {num_bytes}")
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
        mapping = mmap.mmap(descriptor, num_bytes, flags=mmap.MAP_PRIVATE)
    finally:
        os.close(descriptor)
    blob = torch.frombuffer(mapping, dtype=torch.uint8)
    # One read per page shares it. MAP_POPULATE would fault them in as if written: a copy for each process.
    for part in blob.split(_READ_BYTES):
        part[:: mmap.PAGESIZE].sum()
    return blob
