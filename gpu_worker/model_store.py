"""Imported models on this host: their blobs through the host cache, read in when missing."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from gpu_worker.host_cache import HostCache, map_blob
from shared.errors import ModelError
from shared.ids import ModelName


class ModelStore:
    """The engine's BlobSource. Used from the loop's thread only; files are read in another, one at a time."""

    def __init__(self, cache: HostCache, on_evicted: Callable[[ModelName], None]) -> None:
        self._cache = cache
        self._on_evicted = on_evicted
        self._files: dict[ModelName, tuple[Path, int]] = {}  # weights.bin and its bytes
        self._reading = asyncio.Lock()

    def add(self, model: ModelName, path: Path, blob_bytes: int) -> None:
        """Raises ConfigError where the cache's budget is too small for it."""
        self._cache.check_fits(model, blob_bytes)
        self._files[model] = (path, blob_bytes)

    async def preload(self, model: ModelName) -> None:
        """Reads it in if there is room: what another model's step may be using is not evicted. Raises ModelError."""
        async with self._reading:
            if model not in self._cache and self._cache.has_room(self._files[model][1]):
                await self._read(model)

    async def blob(self, model: ModelName) -> Tensor:
        """[blob_bytes] uint8, host; may evict others, so no step runs meanwhile. Raises ModelError for a bad file."""
        cached = self._cache.get(model)
        if cached is not None:
            return cached
        if model not in self._files:
            raise ModelError(f"model {model!r} is not imported")
        async with self._reading:
            cached = self._cache.get(model)
            if cached is not None:
                return cached
            for evicted in self._cache.make_room(self._files[model][1]):
                self._on_evicted(evicted)
            return await self._read(model)

    async def _read(self, model: ModelName) -> Tensor:
        blob = await asyncio.to_thread(map_blob, *self._files[model])
        self._cache.put(model, blob)
        return blob
