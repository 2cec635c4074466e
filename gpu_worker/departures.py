"""Models that are served no more: they finish what they have, then give everything back, between two steps."""

from collections.abc import Callable

from gpu_worker.fetching import Fetcher
from gpu_worker.loader import Loader
from gpu_worker.metrics import EngineMetrics
from gpu_worker.served_model import ServedModel
from gpu_worker.switches import Switches
from shared.ids import ModelName


class Departures:
    """In the engine's loop, which alone takes models out of `models`."""

    def __init__(
        self,
        models: dict[ModelName, ServedModel],
        loader: Loader,
        fetcher: Fetcher,
        switches: Switches,
        metrics: EngineMetrics,
    ) -> None:
        self._models = models
        self._loader = loader
        self._fetcher = fetcher
        self._switches = switches
        self._metrics = metrics
        self._on_gone: dict[ModelName, Callable[[], None]] = {}  # of those that leave

    def begin(self, model: ModelName, on_gone: Callable[[], None]) -> None:
        """It gets no new sequences; on_gone: it has no device memory any more, and nobody views its blob."""
        self._models[model].is_leaving = True
        self._on_gone[model] = on_gone

    async def advance(self) -> None:
        """Between two steps."""
        for name in [name for name in self._on_gone if self._may_go(name)]:
            await self._loader.forget(name)
            self._fetcher.forget(name)
            self._switches.forget(name)
            self._metrics.forget(name)
            self._models.pop(name).executor.release()
            self._on_gone.pop(name)()

    def _may_go(self, name: ModelName) -> bool:
        model = self._models[name]
        return not (model.running or model.waiting or model.unguided or self._fetcher.is_fetching(name))
