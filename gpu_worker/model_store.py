"""Imported models on this host: their blobs from the host model cache, as long as it lets this worker keep them."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Protocol

from torch import Tensor

from gpu_worker.host_cache.protocol import BlobId, BlobSpec
from shared.errors import ModelError
from shared.ids import ModelName

log = logging.getLogger(__name__)


class BlobCache(Protocol):
    """As `gpu_worker/host_cache/client.py` has it."""

    async def acquire(
        self, blob: BlobSpec, *, preload: bool, on_progress: Callable[[int], None] = ...
    ) -> Tensor | None: ...

    def note_use(self, blob: BlobId) -> None: ...

    def drop(self, blob: BlobId) -> None: ...


class ModelStore:
    """The engine's HeldBlobs, in the loop's thread only. Models of equal bytes share a blob."""

    def __init__(self, cache: BlobCache, on_released: Callable[[ModelName], None]) -> None:
        """on_released: this model's blob goes now, nothing may view it any more."""
        self.num_misses = 0
        self._cache = cache
        self._on_released = on_released
        self._specs: dict[ModelName, BlobSpec] = {}
        self._blobs: dict[BlobId, Tensor] = {}  # [blob_bytes] uint8, host
        self._locks: dict[BlobId, asyncio.Lock] = {}  # of asking for it
        self._held: Counter[BlobId] = Counter()
        self._reclaimed: set[BlobId] = set()  # while they are held, or arrive
        self._progress: dict[BlobId, float] = {}  # of those that arrive

    def add(self, model: ModelName, blob: BlobSpec) -> None:
        self._specs[model] = blob
        self._locks.setdefault(blob.id, asyncio.Lock())

    def remove(self, model: ModelName) -> None:
        """Nobody views, holds or gets it any more. What no other model shares is given back to the cache."""
        spec = self._specs.pop(model, None)
        if spec is None or any(other.id == spec.id for other in self._specs.values()):
            return
        self._blobs.pop(spec.id, None)
        self._reclaimed.discard(spec.id)
        del self._locks[spec.id], self._held[spec.id]

    def __contains__(self, model: ModelName) -> bool:
        return model in self._specs and self._specs[model].id in self._blobs

    def blob_bytes(self, model: ModelName) -> int:
        return self._specs[model].num_bytes

    def get(self, model: ModelName) -> Tensor | None:
        """[blob_bytes] uint8, host, for use now; None when the host model cache has to be asked."""
        blob = self._specs.get(model)
        if blob is None or blob.id not in self._blobs:
            return None
        self._cache.note_use(blob.id)
        return self._blobs[blob.id]

    async def preload(self, model: ModelName) -> None:
        """Gets it if there is room without evicting. Raises ModelError: a bad file, or too large for the cache."""
        await self._get(model, preload=True)

    async def fetch(self, model: ModelName) -> None:
        """Gets it; others may have to go for it. Raises ModelError: a bad file, or no room."""
        if model not in self._specs:
            raise ModelError(f"model {model!r} is not imported")
        if model not in self:
            self.num_misses += 1
        await self._get(model, preload=False)

    def let_go(self, model: ModelName) -> None:
        """Its blob leaves when nobody holds it, and the host when nobody maps it, unless another model shares it."""
        blob = self._specs[model].id
        if sum(spec.id == blob for spec in self._specs.values()) == 1:
            self.reclaim(blob)
            self._cache.drop(blob)

    def progress(self, model: ModelName) -> float | None:
        """Which share of it has been read, while it is being got."""
        blob = self._specs.get(model)
        return None if blob is None else self._progress.get(blob.id)

    @contextlib.contextmanager
    def hold(self, model: ModelName) -> Iterator[None]:
        """Meanwhile it stays, once it is there: a step views it."""
        blob = self._specs[model].id
        self._held[blob] += 1
        try:
            yield
        finally:
            self._held[blob] -= 1
            self._let_go_of_reclaimed(blob)

    def reclaim(self, blob: BlobId) -> None:
        """The host needs the room: lets go of it now, or when it has arrived and nobody holds it any more."""
        self._reclaimed.add(blob)
        self._let_go_of_reclaimed(blob)

    def _let_go_of_reclaimed(self, blob: BlobId) -> None:
        if blob not in self._reclaimed or self._held[blob] or self._locks[blob].locked():
            return
        self._reclaimed.remove(blob)
        if self._blobs.pop(blob, None) is not None:
            for model, spec in self._specs.items():
                if spec.id == blob:
                    self._on_released(model)

    async def _get(self, model: ModelName, *, preload: bool) -> None:
        blob = self._specs[model]

        def on_progress(done_bytes: int) -> None:
            self._progress[blob.id] = done_bytes / blob.num_bytes
            log.info("model %s: %d of %d MiB are read", model, done_bytes >> 20, blob.num_bytes >> 20)

        try:
            async with self._locks[blob.id]:
                if blob.id in self._blobs:
                    return
                self._progress[blob.id] = 0.0
                try:
                    tensor = await self._cache.acquire(blob, preload=preload, on_progress=on_progress)
                finally:
                    del self._progress[blob.id]
                if tensor is not None:
                    self._blobs[blob.id] = tensor
        finally:
            self._let_go_of_reclaimed(blob.id)
