"""What comes during a step takes effect after it, in order, once, and as of when it came."""

import pytest

from gpu_worker import inbox as inbox_module
from gpu_worker.inbox import Inbox
from gpu_worker.outbox import Outbox
from gpu_worker.roster import Roster
from gpu_worker.scheduling.round_robin import RoundRobin
from shared.ids import RequestId
from tests.unit.gpu_worker.stand_ins import LIFE, WORKER, assign, cancel, drain, served_model


class Loop:
    """A roster, its inbox and a clock."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.inbox = Inbox(lambda: self.now_s)
        self.roster = Roster(Outbox(WORKER, LIFE), RoundRobin(), max_sequences=10)
        model, _ = served_model()
        self.roster.models[model.name] = model


def test_in_order_once_and_as_of_when_it_came() -> None:
    loop = Loop()
    loop.inbox.put(assign("gone"))
    loop.now_s = 5.0
    loop.inbox.put(cancel("gone"))
    loop.inbox.put(assign("stays", number=2))
    assert len(loop.roster) == 0, "a step may run"
    loop.now_s = 9.0
    loop.inbox.deliver(loop.roster, loop.now_s)
    ends = [(entry.request_id, entry.ended.reason) for entry in drain(loop.roster.outbox) if entry.ended]
    assert ends == [("gone", "cancelled")]
    stays = loop.roster.get(RequestId("stays"))
    assert stays is not None and stays.assigned_at_s == 5.0
    loop.roster.end(stays, "stop", loop.now_s)
    loop.inbox.deliver(loop.roster, loop.now_s)
    assert len(loop.roster) == 0


def test_what_comes_when_it_is_full_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "_MOST", 2)
    loop = Loop()
    for number, request in enumerate("abc", start=1):
        loop.inbox.put(assign(request, number=number))
    loop.inbox.deliver(loop.roster, 0.0)
    assert (len(loop.roster), loop.roster.last_assignment) == (2, 2)
    loop.inbox.put(assign("d", number=4))
    loop.inbox.deliver(loop.roster, 0.0)
    assert len(loop.roster) == 3
