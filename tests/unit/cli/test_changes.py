import pytest

from cli.changes import MAX_MODELS, changed
from shared.ids import Incarnation, ModelName
from shared.messages import AddModel, Catalogue, CatalogueModel, ChangeRefused, RemoveModel

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
