"""What `kottos top` knows: the last state, what each worker did lately, and how it is to be shown. Pure."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, assert_never

from cli.top.feed import Event, Lost, Model, Request, State, Turns
from cli.top.lane import KEPT_S, Lane

MODEL_ORDERS: Final[dict[str, Callable[[Model], object]]] = {
    "name": lambda model: model.model,
    "tokens/s": lambda model: (-model.tokens_per_s, model.model),
    "waiting": lambda model: (-model.waiting, model.model),
    "attainment": lambda model: (2.0 if model.attainment is None else model.attainment, model.model),
}
REQUEST_ORDERS: Final[dict[str, Callable[[Request], object]]] = {
    "age": lambda request: -request.age_s,
    "model": lambda request: (request.model, -request.age_s),
    "tokens": lambda request: -request.num_output_tokens,
}
SPANS_S: Final = (5.0, 10.0, 30.0, 60.0, KEPT_S)


@dataclass
class View:
    state: State | None = None
    lanes: dict[str, Lane] = field(default_factory=dict)  # by worker
    num_lost: int = 0  # events
    trouble: str = ""  # why there is no connection; empty: there is one
    model_order: str = "name"
    request_order: str = "age"
    span_s: float = 30.0
    _received_at_s: float = 0.0  # of the state, by this process's clock

    def apply(self, event: Event, now_s: float) -> None:
        match event:
            case State():
                if self.state is not None and event.gateway != self.state.gateway:
                    self.lanes.clear()  # another gateway counts from another instant
                self.state, self._received_at_s = event, now_s
                alive = {worker.worker for worker in event.workers}
                self.lanes = {name: lane for name, lane in self.lanes.items() if name in alive}
            case Turns():
                self.lanes.setdefault(event.worker, Lane()).add(event.turns)
            case Lost():
                self.num_lost += event.number
            case never:
                assert_never(never)

    def gateway_now_s(self, now_s: float) -> float:
        """The gateway's clock."""
        return 0.0 if self.state is None else self.state.at_s + now_s - self._received_at_s

    def models(self) -> list[Model]:
        return sorted(self.state.models if self.state else [], key=MODEL_ORDERS[self.model_order])  # type: ignore[arg-type]

    def requests(self) -> list[Request]:
        return sorted(self.state.requests if self.state else [], key=REQUEST_ORDERS[self.request_order])  # type: ignore[arg-type]

    def next_model_order(self) -> None:
        self.model_order = _following(list(MODEL_ORDERS), self.model_order)

    def next_request_order(self) -> None:
        self.request_order = _following(list(REQUEST_ORDERS), self.request_order)

    def zoom(self, by: int) -> None:
        """Positive: less time, more of it."""
        index = SPANS_S.index(self.span_s) - by
        self.span_s = SPANS_S[min(max(0, index), len(SPANS_S) - 1)]


def _following(names: list[str], name: str) -> str:
    return names[(names.index(name) + 1) % len(names)]
