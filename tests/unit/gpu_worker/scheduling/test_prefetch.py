from gpu_worker.scheduling.prefetch import evictable_ahead, next_missing
from shared.ids import ModelName
from tests.unit.gpu_worker.scheduling.toy_worker import ToyModel, model, sequence

A, B, C, D = (ModelName(name) for name in "abcd")


def models(resident: str, busy: str) -> dict[ModelName, ToyModel]:
    return {
        ModelName(name): model(
            name, [sequence(f"of {name}", 2, 1)] if name in busy else (), is_resident=name in resident
        )
        for name in "abcd"
    }


def test_the_soonest_that_has_work_and_no_place_comes() -> None:
    assert next_missing(models(resident="ab", busy="abcd"), [A, B, C, D], in_use=A) == C
    assert next_missing(models(resident="ab", busy="abd"), [A, B, C, D], in_use=A) == D
    assert next_missing(models(resident="ab", busy="ab"), [A, B, C, D], in_use=A) is None
    assert next_missing(models(resident="", busy="ab"), [A, B, C, D], in_use=A) == B


def test_what_is_on_disk_only_has_no_turn_coming() -> None:
    busy = models(resident="a", busy="abc")
    busy[B].is_at_hand = False
    assert next_missing(busy, [A, B, C, D], in_use=A) == C


def test_others_go_for_the_very_next_turn_only() -> None:
    all_busy = models(resident="ab", busy="abcd")
    assert evictable_ahead(all_busy, [C, B, D, A], A, C) == [B, D]
    assert evictable_ahead(all_busy, [A, B, C, D], A, C) == []
    assert evictable_ahead(models(resident="ab", busy="ac"), [A, B, C, D], A, C) == [B, D]


def test_without_work_there_is_no_turn_to_come() -> None:
    assert evictable_ahead(models(resident="ab", busy="ab"), [A, B, C, D], A, C) is None
    assert evictable_ahead(models(resident="b", busy="ab"), [A, B, C, D], A, A) is None
