"""Each model's costs on this worker: from what was kept of its last life, or from a guess."""

from dataclasses import dataclass
from pathlib import Path

from gpu_worker.cost_file import CostCache
from gpu_worker.scheduling.costs import guess
from gpu_worker.scheduling.measured_costs import MeasuredCosts, SwitchCosts
from gpu_worker.scheduling.step_estimator import StepEstimator
from shared.catalogue import Manifest
from shared.ids import ModelName


@dataclass(frozen=True, slots=True)
class _Opened:
    folder: Path
    blob: str  # SHA-256
    steps: StepEstimator


class ModelCosts:
    def __init__(self, machine: str, switches: SwitchCosts) -> None:
        """machine: all that steps' times depend on and models don't, as text."""
        self.switches = switches
        self._cache = CostCache(machine)
        self._opened: dict[ModelName, _Opened] = {}

    def open(self, name: ModelName, folder: Path, manifest: Manifest) -> MeasuredCosts:
        """folder: where the weights lie."""
        known = self._cache.load(folder, manifest.sha256)
        steps = StepEstimator(guess(manifest.blob_bytes), known)
        self._opened[name] = _Opened(folder, manifest.sha256, steps)
        return MeasuredCosts(steps, self.switches, manifest.blob_bytes)

    def close(self, name: ModelName) -> None:
        """It is served no more."""
        self._opened.pop(name, None)

    def is_guess(self, name: ModelName) -> bool:
        return self._opened[name].steps.is_guess

    def save(self, name: ModelName) -> None:
        """Waits for the disk."""
        opened = self._opened.get(name)
        if opened is not None and not opened.steps.is_guess:
            self._cache.save(opened.folder, opened.blob, opened.steps.costs)

    def save_all(self) -> None:
        for name in self._opened:
            self.save(name)
