from collections.abc import Iterator

import pytest

from gpu_worker.scheduling.policy import Limits, WorkerView
from gpu_worker.scheduling.step import admission, fill_step, is_runnable, next_to_fetch
from gpu_worker.scheduling.waiting import WaitingLine
from tests.unit.gpu_worker.scheduling.toy_worker import ToyModel, ToySequence, limits, model, sequence


def filled(toy: ToyModel, *others: ToyModel, bounds: Limits | None = None) -> dict[str, int]:
    bounds = bounds or limits()
    rules = admission(WorkerView([toy, *others], bounds, 0))
    step = fill_step(toy, bounds.max_step_tokens, rules)
    assert bool(step) == is_runnable(toy, rules)
    return {str(key): count for key, count in step.items()}


def test_decode_first_then_prompts_in_order_within_the_budget() -> None:
    toy = model(
        "m",
        running=[sequence("prefilling", 9, 4, at=1), sequence("decoding", 21, 20, at=5)],
        waiting=[sequence("late", 6, at=3), sequence("soon", 2, at=2)],
    )
    assert list(filled(toy).items()) == [("decoding", 1), ("prefilling", 5), ("soon", 2), ("late", 1)]


def test_decode_does_not_take_from_the_prompts_budget() -> None:
    decoding = [sequence(f"d{i}", 3, 2) for i in range(3)]
    assert filled(model("m", decoding, [sequence("w", 9)])) == {"d0": 1, "d1": 1, "d2": 1, "w": 8}


def test_priority_before_arrival() -> None:
    urgent, early = sequence("urgent", 7, at=2, priority=-1), sequence("early", 7, at=1)
    assert filled(model("m", waiting=[early, urgent])) == {"urgent": 7, "early": 1}
    assert filled(model("m", running=[sequence("begun", 7, 1, at=0)], waiting=[urgent])) == {"urgent": 7, "begun": 1}


def test_max_running_counts_all_models() -> None:
    waiting = [sequence(f"w{i}", 1, at=i) for i in range(4)]
    other = model("other", running=[sequence("a", 3, 2), sequence("b", 3, 2)])
    assert filled(model("m", waiting=waiting), other) == {"w0": 1, "w1": 1}
    assert filled(model("m", waiting=waiting), other, bounds=limits(max_running=2)) == {}


def test_a_model_whose_weights_are_awaited_keeps_a_slot() -> None:
    """Of three slots one is taken, and one is for the first of a model that was asked for from disk."""
    here = model("here", [sequence("a", 3, 2)], [sequence(f"w{i}", 1, at=i) for i in range(3)])
    asked = model("asked", waiting=[sequence("first", 1, at=9), sequence("second", 1, at=9)], is_at_hand=False)
    rules = admission(WorkerView([here, asked], limits(max_running=3), 0, awaited=[asked.name]))
    assert fill_step(here, 8, rules) == {"a": 1, "w0": 1}
    asked.is_at_hand = True
    assert fill_step(asked, 8, rules) == {"first": 1, "second": 1}


def test_admits_only_what_fits_beside_the_running() -> None:
    """Four blocks: one for the decode at a block border, two for the rest of the prompt that has begun, one left."""
    running = [sequence("decode", 9, 8, at=0), sequence("begun", 12, 4, at=1)]
    for length, admitted in ((4, True), (5, False)):
        toy = model("m", running, [sequence("w", length, at=2)], num_free_blocks=4)
        assert ("w" in filled(toy, bounds=limits(max_step_tokens=100))) is admitted


def test_nobody_passes_the_first_of_a_line_that_has_no_room() -> None:
    toy = model("m", waiting=[sequence("big", 13, at=0), sequence("small", 1, at=1)], num_free_blocks=3)
    assert filled(toy) == {}


def test_room_gathers_for_the_earliest_across_models() -> None:
    big = model("big", waiting=[sequence("big", 13, at=1)], num_free_blocks=3)
    small = model("small", waiting=[sequence("before", 1, at=0), sequence("after", 1, at=2)])
    assert filled(small, big) == {"before": 1}


def test_running_sequences_go_on_without_free_blocks() -> None:
    """Making room for them is the engine's business."""
    toy = model("m", [sequence("d", 9, 8), sequence("p", 12, 4)], [sequence("w", 1)], num_free_blocks=0)
    assert filled(toy) == {"d": 1, "p": 8}


def test_looks_at_few_waiting_sequences() -> None:
    class Watched(WaitingLine[ToySequence]):
        num_seen = 0

        def __iter__(self) -> Iterator[ToySequence]:
            for one in super().__iter__():
                self.num_seen += 1
                yield one

    toy = model("m")
    toy.waiting = watched = Watched()
    for i in range(1000):
        watched.add(sequence(f"w{i}", 3, at=i))
    filled(toy)
    assert watched.num_seen < 10


def test_waiting_line_orders_and_removes() -> None:
    line: WaitingLine[ToySequence] = WaitingLine()
    c, a, b = sequence("c", 1, at=2), sequence("a", 1, at=1), sequence("b", 1, at=9, priority=-1)
    for one in (c, a, b):
        line.add(one)
    assert list(line) == [b, a, c]
    line.remove(a)
    assert list(line) == [b, c] and len(line) == 2 and a not in line
    for gone in (a, sequence("c", 1, at=2)):
        with pytest.raises(ValueError, match="is not waiting"):
            line.remove(gone)


def test_what_is_on_disk_only_is_not_runnable_and_is_fetched_when_its_turn_is_next() -> None:
    idle, there = model("idle", is_at_hand=False), model("there", waiting=[sequence("a", 4)])
    roomless = model("roomless", waiting=[sequence("b", 4, at=9.0)], num_free_blocks=0, is_at_hand=False)
    missing = model("missing", waiting=[sequence("c", 4)], is_at_hand=False)
    view = WorkerView([idle, there, roomless, missing], limits(), 0)
    rules = admission(view)
    assert [m.name for m in view.models if is_runnable(m, rules)] == ["there"]
    names = [idle.name, roomless.name, missing.name, there.name]
    assert next_to_fetch(view, names) == "missing"
    assert next_to_fetch(view, [there.name, *names]) is None
    assert next_to_fetch(view, [there.name, *names], overdue=[missing.name, roomless.name]) == "missing"
    assert fill_step(missing, 8, rules) == {}


def test_what_only_fits_beside_the_needs_of_those_under_copy_is_not_runnable() -> None:
    """A worker that is told so waits for the copy; else it would plan empty steps until then."""
    coming = sequence("coming", 9, computed=8, at=1.0)  # needs a third block
    coming.is_ready = False
    toy = model("m", [coming], [sequence("waiting", 8, at=2.0)], num_free_blocks=2)
    rules = admission(WorkerView([toy], limits(), 0))
    assert not is_runnable(toy, rules)
    assert fill_step(toy, 8, rules) == {}
    coming.is_ready = True
    assert is_runnable(toy, rules)
    assert fill_step(toy, 8, rules) == {coming.request_id: 1}
