from router.held import Held, HeldRequests
from shared.ids import ModelName, RequestId
from tests.unit.router.builders import MODEL, submit


def held(name: str, since_s: float = 0.0, **about: object) -> Held:
    return Held(submit(name, **about), since_s)  # type: ignore[arg-type]


def filled(*ones: Held) -> HeldRequests:
    waiting = HeldRequests()
    for one in ones:
        waiting.add(one)
    return waiting


def served(waiting: HeldRequests) -> list[str]:
    found: list[str] = []
    while (first := waiting.first(MODEL)) is not None:
        waiting.serve(first)
        found.append(first.submit.request_id)
    return found


def test_tenants_take_turns_each_ones_oldest_first() -> None:
    flood = [held(f"a{i}", i, tenant="a") for i in range(4)]
    assert served(filled(*flood, held("b0", 8, tenant="b"), held("b1", 9, tenant="b"))) == [
        "a0",
        "b0",
        "a1",
        "b1",
        "a2",
        "a3",
    ]


def test_priorities_come_first() -> None:
    assert served(filled(held("a", 0), held("b", 1, priority=-1), held("c", 2, priority=1))) == ["b", "a", "c"]


def test_it_knows_the_oldest_of_all_and_whose_there_are() -> None:
    first, second = held("first", 1.0, tenant="a"), held("second", 2.0, model="other", tenant="a", priority=-1)
    waiting = filled(first, second)
    assert waiting.oldest() is first and waiting.models() == [MODEL, "other"]
    assert [waiting.num_of(MODEL, tenant) for tenant in ("a", "b")] == [1, 0]
    waiting.remove(first)
    assert waiting.oldest() is second and waiting.models() == ["other"] and waiting.num_of(MODEL, "a") == 0
    assert waiting.get(RequestId("first")) is None and waiting.get(RequestId("second")) is second
    waiting.serve(second)
    assert len(waiting) == 0 and waiting.oldest() is None and waiting.first(ModelName("other")) is None
