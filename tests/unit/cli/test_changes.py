import pytest
from msgspec.structs import replace

from cli.changes import MAX_DRAINED, MAX_MODELS, changed
from shared.ids import Incarnation, ModelName, WorkerId
from shared.levels import LevelChange
from shared.messages import (
    AddModel,
    Catalogue,
    CatalogueModel,
    ChangeModel,
    ChangeRefused,
    DrainWorker,
    RemoveModel,
)

ONE, TWO = "1" * 32, "2" * 32
A = CatalogueModel(ModelName("a"), "/models/a", ONE)
B = CatalogueModel(ModelName("b"), "/models/b", TWO)
START = Catalogue(Incarnation("steward-0"), 5, (A,))


def made(answer: Catalogue | ChangeRefused) -> Catalogue:
    assert isinstance(answer, Catalogue), answer
    return answer


def refused(answer: Catalogue | ChangeRefused) -> str:
    assert isinstance(answer, ChangeRefused)
    return answer.reason


def test_each_change_is_a_new_number() -> None:
    added = made(changed(START, AddModel(B)))
    assert (added.models, added.number) == ((A, B), 6)
    removed = made(changed(added, RemoveModel(A.name)))
    assert (removed.models, removed.number) == ((B,), 7)


def test_an_addition_said_twice_changes_nothing() -> None:
    assert made(changed(START, AddModel(A))) is START
    assert made(changed(START, AddModel(CatalogueModel(A.name, "/same/content", ONE)))) is START


def test_a_name_means_one_content() -> None:
    other = CatalogueModel(A.name, "/models/other", TWO)
    assert "from /models/a: remove it first" in refused(changed(START, AddModel(other)))


def test_an_unknown_model_is_not_removed() -> None:
    assert "'b'" in refused(changed(START, RemoveModel(B.name)))


@pytest.mark.parametrize(("name", "path"), [("", "/b"), (" b", "/b"), ("a=b", "/b"), ("x" * 129, "/b"), ("b", "/b;c")])
def test_names_and_paths_are_as_in_the_configuration(name: str, path: str) -> None:
    assert refused(changed(START, AddModel(CatalogueModel(ModelName(name), path, TWO))))


def test_there_is_a_bound() -> None:
    catalogue = START
    for number in range(1, MAX_MODELS):
        catalogue = made(changed(catalogue, AddModel(CatalogueModel(ModelName(str(number)), "/m", TWO))))
    assert len(catalogue.models) == MAX_MODELS
    assert str(MAX_MODELS) in refused(changed(catalogue, AddModel(B)))
    assert made(changed(catalogue, AddModel(A))) is catalogue


def test_a_models_level_changes_key_by_key() -> None:
    first = made(changed(START, ChangeModel(A.name, LevelChange(ttft_s=2.0, priority=1))))
    second = made(changed(first, ChangeModel(A.name, LevelChange(tbt_s=0.5), cleared=("priority",))))
    assert second.models == (replace(A, level=LevelChange(2.0, 0.5, None)),)
    assert (first.number, second.number) == (6, 7)
    assert made(changed(second, ChangeModel(A.name, cleared=("ttft_s", "tbt_s")))).models == (A,)


def test_pinning_changes_nothing_else() -> None:
    pinned = made(changed(START, ChangeModel(A.name, LevelChange(priority=1), pinned=True)))
    assert pinned.models == (replace(A, level=LevelChange(priority=1), pinned=True),)
    assert made(changed(pinned, ChangeModel(A.name))) is pinned
    assert made(changed(pinned, ChangeModel(A.name, pinned=False))).models[0].pinned is False


def test_models_keep_their_order_and_an_unknown_one_is_not_changed() -> None:
    both = made(changed(START, AddModel(B)))
    assert [model.name for model in made(changed(both, ChangeModel(A.name, pinned=True))).models] == ["a", "b"]
    assert "'b'" in refused(changed(START, ChangeModel(B.name, pinned=True)))


def test_workers_are_drained_and_resumed() -> None:
    one, two = WorkerId("one"), WorkerId("two")
    drained = made(changed(made(changed(START, DrainWorker(one, True))), DrainWorker(two, True)))
    assert (drained.drained, drained.models, drained.number) == ((one, two), START.models, 7)
    assert made(changed(drained, DrainWorker(one, True))) is drained
    assert made(changed(drained, DrainWorker(one, False))).drained == (two,)
    assert made(changed(START, DrainWorker(one, False))) is START
    many = replace(START, drained=tuple(WorkerId(str(number)) for number in range(MAX_DRAINED)))
    assert str(MAX_DRAINED) in refused(changed(many, DrainWorker(one, True)))
