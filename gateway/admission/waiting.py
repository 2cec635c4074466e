"""Who waits for a first token: a line for each model and tenant, bounded, with an estimate of the wait.

Workers give tenants their turns, so a tenant waits behind its own requests and hardly behind others'. That makes a line
of one tenant and model the thing to measure: a request's position over the rate at which the line moved lately. Nobody
is refused by a guess: until enough have left a line there is no estimate.
"""

from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from gateway.admission.pace import Pace
from shared.errors import ErrorCode, RequestError
from shared.ids import ModelName

CLEARLY: Final = 1.5  # times the limit: an estimate has to pass it by so much before it refuses somebody
_LEAST_RETRY_S: Final = 1.0
_MOST_RETRY_S: Final = 120.0


class LineName(NamedTuple):
    model: ModelName
    tenant: str


class Ticket(NamedTuple):
    """One sequence's place in its line."""

    priority: int
    number: int  # as they came


@dataclass(frozen=True, slots=True)
class Standing:
    position: int  # in its line; 1 is the next
    wait_s: float | None  # that is expected from now on; None: not known

    def __str__(self) -> str:
        about = "" if self.wait_s is None else f", about {max(1, round(self.wait_s))} s"
        return f"queue position {self.position}{about}"


@dataclass(slots=True)
class _Line:
    tickets: list[Ticket] = field(default_factory=list)  # in order
    pace: Pace = field(default_factory=Pace)


class WaitingLines:
    """Of one gateway."""

    def __init__(self, max_of_model: int, max_of_tenant: int, max_ttft_s: float) -> None:
        """max_of_tenant: for one model. max_ttft_s: who would wait for longer is refused; 0: nobody is."""
        self._max_of_model = max_of_model
        self._max_of_tenant = max_of_tenant
        self._max_ttft_s = max_ttft_s
        self._lines: dict[LineName, _Line] = {}  # none is empty
        self._num_of_model: dict[ModelName, int] = {}  # none is 0
        self._num_tickets = 0

    def enter(
        self,
        name: LineName,
        priority: int,
        num_sequences: int,
        timeout_s: float | None,
        clock: Callable[[], float],
    ) -> "WaitingCall":
        """timeout_s: for all of its answer. Raises RequestError where a line is full, or the wait would be too long."""
        now_s = clock()
        line = self._lines.get(name, _Line())
        self._check_bounds(name, line, num_sequences, now_s)
        limits_s = [limit_s for limit_s in (timeout_s, self._max_ttft_s or None) if limit_s is not None]
        if limits_s:
            _check_wait(line, priority, min(limits_s), now_s)
        return WaitingCall(self, name, [self._join(name, priority) for _ in range(num_sequences)], clock)

    def standing(self, name: LineName, ticket: Ticket, now_s: float) -> Standing:
        line = self._lines[name]
        position = bisect_left(line.tickets, ticket) + 1
        return Standing(position, line.pace.wait_s(position, now_s))

    def num_waiting(self, model: ModelName) -> int:
        return self._num_of_model.get(model, 0)

    def predicted_waits_s(self, now_s: float) -> dict[ModelName, float | None]:
        """For a first token of each model that somebody waits for: what a request that came now would wait for, at the
        end of the slowest line; None: not known yet."""
        waits_s: dict[ModelName, float | None] = {}
        for name, line in self._lines.items():
            wait_s, longest_s = line.pace.wait_s(len(line.tickets) + 1, now_s), waits_s.get(name.model)
            waits_s[name.model] = longest_s if wait_s is None else max(wait_s, longest_s or 0.0)
        return waits_s

    def leave(self, name: LineName, ticket: Ticket, now_s: float) -> None:
        line = self._lines[name]
        del line.tickets[bisect_left(line.tickets, ticket)]
        line.pace.moved(now_s)
        if not line.tickets:  # and its pace says nothing of those who come later
            del self._lines[name]
        self._num_of_model[name.model] -= 1
        if not self._num_of_model[name.model]:
            del self._num_of_model[name.model]

    def _join(self, name: LineName, priority: int) -> Ticket:
        self._num_tickets += 1
        ticket = Ticket(priority, self._num_tickets)
        insort(self._lines.setdefault(name, _Line()).tickets, ticket)
        self._num_of_model[name.model] = self._num_of_model.get(name.model, 0) + 1
        return ticket

    def _check_bounds(self, name: LineName, line: _Line, num_more: int, now_s: float) -> None:
        num_of_tenant, num_of_model = len(line.tickets), self._num_of_model.get(name.model, 0)
        if num_of_tenant + num_more > self._max_of_tenant:
            why = f"{num_of_tenant} of your requests wait for the model {name.model!r} already."
        elif num_of_model + num_more > self._max_of_model:
            why = f"{num_of_model} requests wait for the model {name.model!r} already."
        else:
            return
        raise _overloaded(why, line.pace.wait_s(num_of_tenant, now_s))


class WaitingCall:
    """The sequences of one call that have no token yet."""

    def __init__(self, lines: WaitingLines, name: LineName, tickets: list[Ticket], clock: Callable[[], float]) -> None:
        self._lines = lines
        self._name = name
        self._tickets = dict(enumerate(tickets))  # by their choices' indices
        self._clock = clock

    def standing(self, index: int | None = None) -> Standing | None:
        """Of one sequence, by default of the first that waits; None: it does not."""
        ticket = next(iter(self._tickets.values()), None) if index is None else self._tickets.get(index)
        return None if ticket is None else self._lines.standing(self._name, ticket, self._clock())

    def started(self, index: int) -> None:
        """It has a token; only the first one counts."""
        if (ticket := self._tickets.pop(index, None)) is not None:
            self._lines.leave(self._name, ticket, self._clock())

    def leave(self) -> None:
        """Nobody waits for the others any more."""
        for index in list(self._tickets):
            self.started(index)


def _check_wait(line: _Line, priority: int, limit_s: float, now_s: float) -> None:
    num_before = bisect_left(line.tickets, Ticket(priority + 1, 0))
    wait_s = line.pace.wait_s(num_before + 1, now_s)
    if wait_s is not None and wait_s > CLEARLY * limit_s:
        why = f"The first token would take about {wait_s:.0f} s, and the limit is {limit_s:g} s."
        raise _overloaded(why, wait_s - limit_s)


def _overloaded(why: str, wait_s: float | None) -> RequestError:
    retry_s = _LEAST_RETRY_S if wait_s is None else min(_MOST_RETRY_S, max(_LEAST_RETRY_S, wait_s))
    return RequestError(ErrorCode.OVERLOADED, why, retry_after_s=retry_s)
