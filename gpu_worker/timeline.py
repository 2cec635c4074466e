"""Steps and the switches between them, kept for whoever watches, and only while somebody does. Pure."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from shared.ids import ModelName
from shared.messages import StepTold, SwitchTold, TurnTold

WATCH_S: Final = 3.0  # from one Watch on; gateways say it once a second
MAX_STEPS: Final = 4096  # not taken yet: the oldest go


class _Step(NamedTuple):
    model: ModelName
    switch: SwitchTold | None  # right before it
    began_at_s: float
    duration_s: float
    num_prefill_tokens: int
    num_decode_tokens: int
    num_drawn_tokens: int


class TimelineRing:
    """Of one token loop, which looks at `is_watched` before it says anything."""

    def __init__(self) -> None:
        self.is_watched = False
        self._watched_until_s = float("-inf")
        self._steps: deque[_Step] = deque(maxlen=MAX_STEPS)
        self._switch: tuple[ModelName, SwitchTold] | None = None  # that no step has followed yet

    def __len__(self) -> int:
        return len(self._steps)

    def watch(self, now_s: float) -> None:
        self.is_watched = True
        self._watched_until_s = now_s + WATCH_S

    def lapse(self, now_s: float) -> None:
        """Forgets everything when nobody has watched for a while."""
        if now_s >= self._watched_until_s:
            self.is_watched = False
            self._steps.clear()
            self._switch = None

    def switched(self, model: ModelName, switch: SwitchTold) -> None:
        """The next step is this model's, if it does not fail."""
        self._switch = model, switch

    def stepped(
        self,
        model: ModelName,
        began_at_s: float,
        duration_s: float,
        num_prefill_tokens: int,
        num_decode_tokens: int,
        num_drawn_tokens: int,
    ) -> None:
        switch = self._switch[1] if self._switch is not None and self._switch[0] == model else None
        self._switch = None
        numbers = num_prefill_tokens, num_decode_tokens, num_drawn_tokens
        self._steps.append(_Step(model, switch, began_at_s, duration_s, *numbers))

    def take(self, now_s: float) -> tuple[TurnTold, ...]:
        """All since the last time, as turns."""
        turns = tuple(_turns(self._steps, now_s))
        self._steps.clear()
        return turns


def _turns(steps: Iterable[_Step], now_s: float) -> Iterator[TurnTold]:
    turn: list[_Step] = []
    for step in steps:
        if turn and (step.switch is not None or step.model != turn[0].model):
            yield _told(turn, now_s)
            turn = []
        turn.append(step)
    if turn:
        yield _told(turn, now_s)


def _told(turn: list[_Step], now_s: float) -> TurnTold:
    model, switch, began_at_s = turn[0][:3]
    steps = (StepTold(step.began_at_s - began_at_s, *step[3:]) for step in turn)
    return TurnTold(model, now_s - began_at_s, switch, tuple(steps))
