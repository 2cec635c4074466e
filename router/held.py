"""Requests that wait for a worker that takes their model."""

from dataclasses import dataclass

from shared.fair_line import PROMPT_WEIGHT, FairLine, Key
from shared.ids import ModelName, RequestId
from shared.messages import Submit


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    submit: Submit
    since_s: float


class HeldRequests:
    """By age, and in a line of each model, whose tenants take turns. Whoever adds has to bound them."""

    def __init__(self) -> None:
        self._held: dict[RequestId, Held] = {}  # oldest first
        self._lines: dict[ModelName, FairLine[Held]] = {}  # none is empty
        self._num_of: dict[tuple[ModelName, str], int] = {}  # of a tenant; never 0

    def __len__(self) -> int:
        return len(self._held)

    def get(self, request_id: RequestId) -> Held | None:
        return self._held.get(request_id)

    def num_of(self, model: ModelName, tenant: str) -> int:
        return self._num_of.get((model, tenant), 0)

    def add(self, held: Held) -> None:
        submit = held.submit
        self._held[submit.request_id] = held
        if (line := self._lines.get(submit.model)) is None:
            line = self._lines[submit.model] = FairLine(_key, _tenant, _cost)
        line.add(held)
        self._num_of[submit.model, submit.tenant] = self.num_of(submit.model, submit.tenant) + 1

    def remove(self, held: Held) -> None:
        self._forget(held)
        self._lines[held.submit.model].remove(held)
        self._drop_if_empty(held.submit.model)

    def serve(self, held: Held) -> None:
        """It waits no longer, and counts for its tenant."""
        self._forget(held)
        self._lines[held.submit.model].serve(held)
        self._drop_if_empty(held.submit.model)

    def oldest(self) -> Held | None:
        return next(iter(self._held.values()), None)

    def first(self, model: ModelName) -> Held | None:
        """Priorities first, then tenants by turns, each one's oldest first."""
        line = self._lines.get(model)
        return None if line is None else next(iter(line))

    def num_by_model(self) -> dict[ModelName, int]:
        return {model: len(line) for model, line in self._lines.items()}

    def models(self) -> list[ModelName]:
        """That somebody waits for, the one waited for longest first."""
        return list(self._lines)

    def _forget(self, held: Held) -> None:
        del self._held[held.submit.request_id]
        of = (held.submit.model, held.submit.tenant)
        self._num_of[of] -= 1
        if not self._num_of[of]:
            del self._num_of[of]

    def _drop_if_empty(self, model: ModelName) -> None:
        if not len(self._lines[model]):
            del self._lines[model]


def _key(held: Held) -> Key:
    return (held.submit.priority, held.since_s, held.submit.request_id)


def _tenant(held: Held) -> str:
    return held.submit.tenant


def _cost(held: Held) -> float:
    """Nobody knows yet how long its output becomes."""
    return PROMPT_WEIGHT * len(held.submit.prompt)
