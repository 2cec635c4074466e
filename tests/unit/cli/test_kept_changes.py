import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from cli.changes import Change, changed
from cli.kept_changes import Changes, as_changed, changes_of, kept_changes, sources
from shared.config import ModelSource
from shared.errors import ConfigError, ModelError
from shared.ids import Incarnation, ModelName, WorkerId
from shared.levels import LevelChange
from shared.messages import AddModel, Catalogue, CatalogueModel, ChangeModel, DrainWorker, RemoveModel
from tests.unit.gateway.tiny_models import write_source

CONFIGURED = (ModelSource("a", "/a"), ModelSource("b", "/b"))


def listed(models: Sequence[ModelSource]) -> tuple[CatalogueModel, ...]:
    return tuple(CatalogueModel(ModelName(model.name), model.path, "0" * 32) for model in models)


def after(*changes: Change, of: Sequence[ModelSource] = CONFIGURED) -> Catalogue:
    catalogue = Catalogue(Incarnation("steward-0"), 0, listed(of))
    for change in changes:
        made = changed(catalogue, change)
        assert isinstance(made, Catalogue), made
        catalogue = made
    return catalogue


def again(changes: Changes, configured: Sequence[ModelSource] = CONFIGURED) -> tuple[CatalogueModel, ...]:
    """What a stack serves that starts with them."""
    return as_changed(listed(sources(configured, changes)), changes)


@pytest.mark.parametrize(
    "made",
    [
        [],
        [RemoveModel(ModelName("a"))],
        [AddModel(listed([ModelSource("c", "/c")])[0])],
        [RemoveModel(ModelName("a")), AddModel(listed([ModelSource("a", "/else")])[0])],
        [RemoveModel(ModelName("a")), AddModel(listed([ModelSource("a", "/a")])[0])],
        [ChangeModel(ModelName("b"), LevelChange(ttft_s=1.5, priority=-3), pinned=True)],
        [ChangeModel(ModelName("b"), LevelChange(tbt_s=1.0)), RemoveModel(ModelName("b"))],
    ],
)
def test_the_next_stack_serves_what_the_last_one_did(made: list[Change]) -> None:
    catalogue = after(*made)
    served = again(changes_of(CONFIGURED, catalogue))
    assert sorted(served, key=lambda model: model.name) == sorted(catalogue.models, key=lambda model: model.name)


def test_what_is_configured_later_is_served_too() -> None:
    changes = changes_of(CONFIGURED, after(RemoveModel(ModelName("a")), AddModel(listed([ModelSource("c", "/c")])[0])))
    later = (*CONFIGURED, ModelSource("d", "/d"))
    assert [model.name for model in again(changes, later)] == ["b", "d", "c"]


def test_drained_workers_stay_so() -> None:
    catalogue = after(DrainWorker(WorkerId("worker-1"), True))
    assert changes_of(CONFIGURED, catalogue).drained == ("worker-1",)
    assert changes_of(CONFIGURED, after()) == Changes()


def test_a_folder_keeps_changes_for_one_stack_at_a_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    a, b = write_source(tmp_path / "a", "a"), write_source(tmp_path / "b", "b")
    with kept_changes(tmp_path / "state") as kept:
        [served] = kept.served([a])
        added = CatalogueModel(ModelName("b"), b.path, "1" * 32, LevelChange(priority=2))
        kept.keeper([a])(Catalogue(Incarnation("s"), 1, (served, added), (WorkerId("w"),)))
        with kept_changes(tmp_path / "state") as other:
            assert other.changes == Changes()
            other.keeper([a])(Catalogue(Incarnation("t"), 1, ()))
        assert "another stack's" in caplog.text
    with kept_changes(tmp_path / "state") as kept:
        assert [(model.name, model.level.priority) for model in kept.served([a])] == [("a", None), ("b", 2)]
        assert kept.changes.drained == ("w",)


def test_an_added_model_whose_files_are_gone_is_left_out_and_a_configured_one_refuses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    a, gone = write_source(tmp_path / "a", "a"), ModelSource("gone", "/no/where")
    with kept_changes(tmp_path) as kept:
        kept.keeper([a])(Catalogue(Incarnation("s"), 1, listed([a, gone])))
    with kept_changes(tmp_path) as kept, caplog.at_level(logging.ERROR):
        assert [model.name for model in kept.served([a])] == ["a"]
        assert "no such file or folder: /no/where" in caplog.text
        with pytest.raises(ModelError):
            kept.served([a, gone])


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 2}', '{"aded": []}'])
def test_a_damaged_file_refuses_to_start_and_says_how_to_go_on(tmp_path: Path, text: str) -> None:
    (tmp_path / "changes.json").write_text(text)
    with pytest.raises(ConfigError, match=r"changes\.json is damaged: .* remove it"), kept_changes(tmp_path):
        pass
