"""Pinned models: brought to the device while there is no work, where they stay unless another one has no place else."""

import logging
from collections.abc import Mapping

from gpu_worker.fetching import FetchedBlobs
from gpu_worker.loader import Loader
from gpu_worker.served_model import ServedModel
from shared.ids import ModelName

log = logging.getLogger(__name__)


class Pins:
    """In the engine's loop."""

    def __init__(self, models: Mapping[ModelName, ServedModel], loader: Loader, blobs: FetchedBlobs) -> None:
        self._models = models
        self._loader = loader
        self._blobs = blobs
        self._failed: set[ModelName] = set()  # not tried again while they are pinned

    async def advance(self) -> bool:
        """Between two steps, where no step is due: whether a model was brought in. One at a time: work may come."""
        if any(model.running or model.waiting for model in self._models.values()):
            return False  # for weights from disk, or for copies of KV
        pinned = {name: model for name, model in self._models.items() if model.is_pinned}
        self._failed &= pinned.keys()
        missing = (model for name, model in pinned.items() if not model.is_resident and name not in self._failed)
        for model in [model for model in missing if model.is_at_hand and not model.is_leaving]:
            try:
                with self._blobs.hold(model.name):
                    if await self._loader.settle_in(model.name):
                        log.info("model %s is pinned, and on the device now", model.name)
                        return True
            except Exception:  # its requests will say why, if there are any
                log.exception("model %s is pinned, and could not be brought in", model.name)
                self._failed.add(model.name)
        return False
