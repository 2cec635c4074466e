"""What a worker tells of its switches from model to model, once the step that each led to is over."""

from collections.abc import Callable
from typing import NamedTuple

from gpu_worker.loader import Arrival
from shared.ids import ModelName, WorkerId
from shared.messages import ModelSwitched, SwitchTold


class Switch(NamedTuple):
    model: ModelName
    previous: ModelName | None
    arrival: Arrival
    waited_s: float

    @property
    def copied_bytes(self) -> int:
        return 0 if self.arrival.kind == "resident" else self.arrival.base.numel()

    def told(self) -> SwitchTold:
        return SwitchTold(self.arrival.kind, self.waited_s, self.copied_bytes)


class Switches:
    """Of one device, whose steps follow one another."""

    def __init__(self, worker: WorkerId, clock: Callable[[], float]) -> None:
        self._worker = worker
        self._clock = clock
        self._current: ModelName | None = None
        self._pending: list[Switch] = []

    def note(self, model: ModelName, arrival: Arrival, decided_at_s: float) -> Switch | None:
        """The next step is this model's, and may run now; the switch to it, if it is one."""
        if model == self._current and arrival.kind != "from disk":
            return None
        switch = Switch(model, self._current, arrival, self._clock() - decided_at_s)
        self._pending.append(switch)
        self._current = model
        return switch

    def forget(self, model: ModelName) -> None:
        """What comes next is a switch, even if it has this name."""
        if self._current == model:
            self._current = None

    def drain(self) -> list[ModelSwitched]:
        if not self._pending:
            return []
        pending, self._pending = self._pending, []
        now_s = self._clock()
        return [self._event(switch, now_s) for switch in pending]

    def _event(self, switch: Switch, now_s: float) -> ModelSwitched:
        arrival = switch.arrival
        copy_s = arrival.copy_time.seconds(now_s) if arrival.copy_time else 0.0
        return ModelSwitched(
            worker=self._worker,
            model=switch.model,
            previous=switch.previous,
            kind=arrival.kind,
            copied_bytes=switch.copied_bytes,
            waited_s=switch.waited_s,
            overlapped_s=max(0.0, copy_s - switch.waited_s),
        )
