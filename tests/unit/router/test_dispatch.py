import pytest

from router.dispatch import RETRY_AFTER_S, Dispatcher, Send
from router.state import Recent
from shared.config import RouterConfig
from shared.errors import ErrorCode
from shared.messages import Assign, Assigned, Refused, WorkerCame, WorkerWent
from tests.unit.router.builders import MODEL, ROUTER, beat, cancel, submit

CONFIG = RouterConfig(max_held=3, hold_timeout_s=30.0, worker_dead_s=10.0, residency_bonus=0.0)


@pytest.fixture
def router() -> Dispatcher:
    return Dispatcher(CONFIG, ROUTER, settled_at_s=0.0)


def assigns(sends: list[Send]) -> list[tuple[str, str, int]]:
    """(subject, request, attempt) of each Assign."""
    return [
        (send.subject, send.message.submit.request_id, send.message.submit.attempt)
        for send in sends
        if isinstance(send.message, Assign)
    ]


def refusals(sends: list[Send]) -> list[tuple[str, ErrorCode]]:
    return [(s.message.request_id, s.message.code) for s in sends if isinstance(s.message, Refused)]


def test_owner_hears_of_the_worker_before_the_worker_of_the_request(router: Dispatcher) -> None:
    router.hear(beat("w0"), 1.0)
    to_owner, to_worker = router.submit(submit("r"), 1.0)
    w0 = beat("w0")
    assert to_owner == Send("kottos.owner.owner", Assigned(submit("r").request_id, 0, w0.worker, w0.incarnation))
    assert to_worker == Send("kottos.worker.w0", Assign(submit("r"), ROUTER, 1), since_s=1.0)


def test_numbers_rise(router: Dispatcher) -> None:
    router.hear(beat("w0"), 1.0)
    router.hear(beat("w1"), 1.0)
    sends = [send for i in range(6) for send in router.submit(submit(f"r{i}"), 1.0)]
    assert [send.message.number for send in sends if isinstance(send.message, Assign)] == [1, 2, 3, 4, 5, 6]


def test_same_attempt_again_is_assigned_once(router: Dispatcher) -> None:
    router.hear(beat("w0"), 1.0)
    router.hear(beat("w1"), 1.0)
    first = router.submit(submit("r"), 1.0)
    again = router.submit(submit("r"), 2.0)
    assert again == first[:1]


def test_same_attempt_again_while_held_is_held_once(router: Dispatcher) -> None:
    assert router.submit(submit("r"), 1.0) == [] == router.submit(submit("r"), 1.5)
    assert assigns(router.hear(beat("w0"), 2.0)) == [("kottos.worker.w0", "r", 0)]


def test_newer_attempt_replaces_the_older_everywhere(router: Dispatcher) -> None:
    router.submit(submit("r", attempt=0), 1.0)
    router.submit(submit("r", attempt=1), 1.0)
    assert assigns(router.hear(beat("w0"), 2.0)) == [("kottos.worker.w0", "r", 1)]
    sends = router.submit(submit("r", attempt=2), 3.0)
    assert sends[0] == Send("kottos.worker.w0", cancel("r", attempt=1, worker="w0"))
    assert assigns(sends) == [("kottos.worker.w0", "r", 2)]
    assert router.submit(submit("r", attempt=1), 3.0) == []


def test_same_attempt_is_assigned_anew_when_its_worker_is_gone(router: Dispatcher) -> None:
    router.hear(beat("w0"), 1.0)
    router.submit(submit("r"), 1.0)
    router.hear(beat("w0", life="2"), 2.0)
    assert assigns(router.submit(submit("r"), 2.0)) == [("kottos.worker.w0", "r", 0)]


def test_held_requests_go_out_in_order_and_with_their_age(router: Dispatcher) -> None:
    router.submit(submit("a", age_s=0.5), 1.0)
    router.submit(submit("b"), 2.0)
    assert router.hear(beat("w0", {MODEL: "loading"}), 3.0)[1:] == []
    sends = router.hear(beat("w0"), 4.0)
    sent = [send.message.submit for send in sends if isinstance(send.message, Assign)]
    assert [(one.request_id, one.age_s) for one in sent] == [("a", 3.5), ("b", 2.0)]
    assert assigns(router.hear(beat("w0"), 4.5)) == []


def test_a_model_that_sleeps_does_not_hold_others_up(router: Dispatcher) -> None:
    router.submit(submit("asleep", model="x"), 1.0)
    router.submit(submit("awake"), 1.0)
    assert assigns(router.hear(beat("w0"), 2.0)) == [("kottos.worker.w0", "awake", 0)]
    assert assigns(router.hear(beat("w0", {MODEL: "cached", "x": "cached"}), 3.0)) == [
        ("kottos.worker.w0", "asleep", 0)
    ]


def test_held_requests_are_bounded(router: Dispatcher) -> None:
    sends = [router.submit(submit(f"r{i}"), 1.0) for i in range(4)]
    assert sends[:3] == [[], [], []]
    assert refusals(sends[3]) == [("r3", ErrorCode.UNAVAILABLE)]
    router.cancel(cancel("r0"))
    assert router.submit(submit("r4"), 1.0) == []


def test_held_requests_expire_with_a_time_to_retry(router: Dispatcher) -> None:
    router.submit(submit("old"), 1.0)
    router.submit(submit("young"), 2.0)
    assert router.tick(30.9) == []
    (send,) = router.tick(31.0)
    assert send.subject == "kottos.owner.owner" and refusals([send]) == [("old", ErrorCode.UNAVAILABLE)]
    assert isinstance(send.message, Refused) and send.message.retry_after_s == RETRY_AFTER_S
    assert assigns(router.hear(beat("w0"), 31.0)) == [("kottos.worker.w0", "young", 0)]


def test_held_requests_of_a_model_that_fails_are_refused(router: Dispatcher) -> None:
    router.submit(submit("r"), 1.0)
    sends = router.hear(beat("w0", {MODEL: "failed"}, reason="no such architecture"), 2.0)
    assert refusals(sends) == [("r", ErrorCode.UNAVAILABLE)]
    assert "no such architecture" in str(sends[-1].message)


def test_cancel_takes_a_held_request_out(router: Dispatcher) -> None:
    router.submit(submit("r"), 1.0)
    assert refusals(router.cancel(cancel("r"))) == [("r", ErrorCode.CANCELLED)]
    assert assigns(router.hear(beat("w0"), 2.0)) == []


def test_cancel_follows_its_request_to_the_worker(router: Dispatcher) -> None:
    router.hear(beat("w0", load=1), 1.0)
    router.hear(beat("w1"), 1.0)
    router.submit(submit("r"), 1.0)
    assert router.cancel(cancel("r")) == [Send("kottos.worker.w1", cancel("r"))]


def test_cancel_of_an_older_attempt_spares_the_newer(router: Dispatcher) -> None:
    router.hear(beat("w0"), 1.0)
    router.submit(submit("r", attempt=1), 1.0)
    stray = cancel("r", attempt=0, worker="w7")
    assert router.cancel(stray) == [Send("kottos.worker.w7", stray)]
    assert router.cancel(cancel("r", attempt=0)) == []


def test_cancel_of_an_unknown_request_asks_every_worker_with_the_model(router: Dispatcher) -> None:
    for worker, model in (("w0", MODEL), ("w1", "other"), ("w2", MODEL)):
        router.hear(beat(worker, {model: "cached"}), 1.0)
    assert [send.subject for send in router.cancel(cancel("r"))] == ["kottos.worker.w0", "kottos.worker.w2"]


def test_a_cancelled_attempt_that_comes_again_stays_cancelled(router: Dispatcher) -> None:
    router.hear(beat("w0"), 1.0)
    router.cancel(cancel("r", attempt=1))
    router.cancel(cancel("r", attempt=0))
    assert refusals(router.submit(submit("r", attempt=1), 1.0)) == [("r", ErrorCode.CANCELLED)]
    assert assigns(router.submit(submit("r", attempt=2), 1.0)) == [("kottos.worker.w0", "r", 2)]


def test_workers_come_and_go(router: Dispatcher) -> None:
    first, second = beat("w0", life="1"), beat("w0", life="2")
    came = Send("kottos.event.worker.came", WorkerCame(first.worker, first.incarnation))
    assert router.hear(first, 1.0) == [came]
    assert router.hear(first, 1.5) == []
    restarted = router.hear(second, 2.0)
    assert [type(send.message) for send in restarted] == [WorkerWent, WorkerCame]
    assert restarted[0].message == WorkerWent(first.worker, first.incarnation, "restarted")
    assert router.tick(12.0) == []
    (went,) = router.tick(12.1)
    assert went.message == WorkerWent(second.worker, second.incarnation, "no beat for 10 s")
    assert router.tick(13.0) == []
    assert [type(send.message) for send in router.hear(second, 14.0)] == [WorkerCame]


def test_a_restarted_worker_starts_without_load(router: Dispatcher) -> None:
    router.hear(beat("w0"), 1.0)
    for i in range(5):
        router.submit(submit(f"r{i}"), 1.0)
    router.hear(beat("w1", load=1), 1.0)
    router.hear(beat("w0", life="2"), 2.0)
    assert assigns(router.submit(submit("r9"), 2.0)) == [("kottos.worker.w0", "r9", 0)]


def test_a_new_router_hears_every_worker_before_it_assigns() -> None:
    router = Dispatcher(RouterConfig(), ROUTER, settled_at_s=10.6)
    for i in range(8):
        router.submit(submit(f"r{i}"), 10.0)
    for i in range(4):
        assert assigns(router.hear(beat(f"w{i}"), 10.1 + i / 10)) == []
    sends = router.hear(beat("w0"), 10.6)
    subjects = [subject for subject, _, _ in assigns(sends)]
    assert sorted(subjects) == sorted(2 * [f"kottos.worker.w{i}" for i in range(4)])


def test_an_assignment_that_could_not_be_sent_is_held_again(router: Dispatcher) -> None:
    router.hear(beat("w0"), 1.0)
    assign = router.submit(submit("r"), 1.0)[1].message
    assert isinstance(assign, Assign)
    assert router.take_back(assign, 1.0) == []
    assert assigns(router.hear(beat("w0"), 1.5)) == [("kottos.worker.w0", "r", 0)]


def test_an_assignment_that_can_never_be_sent_is_refused(router: Dispatcher) -> None:
    router.hear(beat("w0"), 1.0)
    assign = router.submit(submit("r"), 1.0)[1].message
    assert isinstance(assign, Assign)
    assert refusals(router.give_up(assign, "too large")) == [("r", ErrorCode.CONTEXT_LENGTH_EXCEEDED)]
    router.hear(beat("w1"), 1.0)
    assert assigns(router.submit(submit("s"), 1.0)) == [("kottos.worker.w0", "s", 0)]  # its load is gone
    assert len(router.cancel(cancel("r"))) == 2  # unknown again: every worker is asked


def test_workers_are_bounded(monkeypatch: pytest.MonkeyPatch, router: Dispatcher) -> None:
    monkeypatch.setattr("router.dispatch.MAX_WORKERS", 2)
    for i in range(3):
        router.hear(beat(f"w{i}", {f"m{i}": "cached"}), 1.0)
    assert router.submit(submit("r", model="m2"), 1.0) == []
    assert assigns(router.submit(submit("s", model="m1"), 1.0)) == [("kottos.worker.w1", "s", 0)]


def test_recent_forgets_the_oldest() -> None:
    recent: Recent[str, int] = Recent(max_entries=2)
    recent["a"], recent["b"] = 1, 2
    recent["a"] = 3
    recent["c"] = 4
    assert (recent["a"], recent["b"], recent["c"], len(recent)) == (3, None, 4, 2)
    assert recent.pop("a") == 3 and recent.pop("a") is None


def test_held_requests_go_out_by_turns_of_their_tenants(router: Dispatcher) -> None:
    for name, tenant in (("a0", "a"), ("a1", "a"), ("b0", "b")):
        router.submit(submit(name, tenant=tenant), 1.0)
    assert [request for _, request, _ in assigns(router.hear(beat("w0"), 2.0))] == ["a0", "b0", "a1"]


def test_one_tenant_can_not_take_all_places() -> None:
    router = Dispatcher(RouterConfig(max_held=3, max_held_of_tenant=2), ROUTER, settled_at_s=0.0)
    assert router.submit(submit("a0", tenant="a"), 1.0) == [] == router.submit(submit("a1", tenant="a"), 1.0)
    (send,) = router.submit(submit("a2", tenant="a"), 1.0)
    assert refusals([send]) == [("a2", ErrorCode.OVERLOADED)]
    assert isinstance(send.message, Refused) and send.message.retry_after_s == RETRY_AFTER_S
    assert router.submit(submit("b0", tenant="b"), 1.0) == []
    router.cancel(cancel("a0"))
    assert router.submit(submit("a3", tenant="a"), 1.0) == []


def test_what_has_run_already_is_held_beyond_its_tenants_places() -> None:
    router = Dispatcher(RouterConfig(max_held=3, max_held_of_tenant=1), ROUTER, settled_at_s=0.0)
    assert router.submit(submit("a0"), 1.0) == [] == router.submit(submit("a1", attempt=1), 1.0)
