"""A served model's Costs (policy.py): steps by what its steps took, switches by what the device's copies took."""

from collections import deque
from math import isfinite
from statistics import median_low
from typing import Final, Literal, Protocol

from gpu_worker.scheduling.costs import GUESSED_BYTES_PER_S, StepShape
from gpu_worker.scheduling.policy import Costs
from gpu_worker.scheduling.step_estimator import StepEstimator

SwitchKind = Literal["resident", "prefetched", "streamed", "copied", "from disk"]

_NUM_KEPT: Final = 15
_LEAST_SWITCH_S: Final = 1e-5
_MOST_SWITCH_S: Final = 600.0


class LearningCosts(Costs, Protocol):
    def observe(self, shape: StepShape, seconds: float) -> None:
        """A step took so long, of which it waited for no weights."""


class RunningMedian:
    """Of the last few, the lower one: up to half may be wrong, and what disturbs makes slow.

    The guess counts as the first, so that the first copy of all, into memory that nobody touched before, decides alone
    about nothing.
    """

    def __init__(self, initial: float) -> None:
        self.value = initial
        self._last = deque([initial], maxlen=_NUM_KEPT)

    def add(self, value: float) -> None:
        if isfinite(value) and value > 0:
            self._last.append(value)
            self.value = median_low(self._last)


class SwitchCosts:
    """One device's, for all its models: bytes over the bandwidth at which weights come."""

    def __init__(self, link_bytes_per_s: float | None, *, unified: bool) -> None:
        """unified: host memory is the device's, nothing is copied."""
        self._unified = unified
        self._copy_s = RunningMedian(1 / (link_bytes_per_s or GUESSED_BYTES_PER_S))  # of a byte

    def observe(self, kind: SwitchKind, num_bytes: int, seconds: float) -> None:
        """seconds: of all that bringing the weights took, whatever was hidden behind steps."""
        match kind:
            case "copied" | "streamed" | "prefetched":
                self._copy_s.add(seconds / max(num_bytes, 1))
            case "resident" | "from disk":  # that says more of the disk than of the copy
                pass

    def copy_s(self, num_bytes: int) -> float:
        """From host memory."""
        return 0.0 if self._unified else _bounded(num_bytes * self._copy_s.value)


class MeasuredCosts:
    def __init__(self, steps: StepEstimator, switches: SwitchCosts, blob_bytes: int) -> None:
        self.steps = steps
        self._switches = switches
        self._blob_bytes = blob_bytes

    def step_s(self, shape: StepShape) -> float:
        return self.steps.step_s(shape)

    @property
    def switch_s(self) -> float:
        return self._switches.copy_s(self._blob_bytes)

    def observe(self, shape: StepShape, seconds: float) -> None:
        self.steps.observe(shape, seconds)


def _bounded(seconds: float) -> float:
    return min(max(seconds, _LEAST_SWITCH_S), _MOST_SWITCH_S)
