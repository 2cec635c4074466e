"""Imported models on this host: their blobs through the host cache, loaded when missing."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from gpu_worker.host_cache import HostCache, map_blob
from shared.errors import ModelError
from shared.ids import ModelName


class ModelStore:
    """The engine's BlobSource. Used from the loop's thread only; reading files happens in another."""

    def __init__(self, cache: HostCache, on_evicted: Callable[[ModelName], None]) -> None:
        self._cache = cache
        self._on_evicted = on_evicted
        self._files: dict[ModelName, tuple[Path, int]] = {}  # weights.bin and its bytes

    def add(self, model: ModelName, path: Path, blob_bytes: int) -> None:
        self._files[model] = (path, blob_bytes)

    async def blob(self, model: ModelName) -> Tensor:
        """[blob_bytes] uint8, host. Raises ConfigError for too small a budget, ModelError for a bad file."""
        blob = self._cache.get(model)
        if blob is not None:
            return blob
        if model not in self._files:
            raise ModelError(f"model {model!r} is not imported")
        path, blob_bytes = self._files[model]
        for evicted in self._cache.make_room(blob_bytes):
            self._on_evicted(evicted)
        blob = await asyncio.to_thread(map_blob, path, blob_bytes)
        self._cache.put(model, blob)
        return blob
