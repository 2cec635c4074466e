"""What becomes of the catalogue in force by one change. Pure: its steward sends what is decided here."""

from typing import Final

from msgspec.structs import replace

from shared.config import ModelSource, check_model
from shared.errors import ConfigError
from shared.ids import ModelName
from shared.levels import LevelChange, LevelKey
from shared.messages import (
    AddModel,
    Catalogue,
    CatalogueModel,
    ChangeModel,
    ChangeRefused,
    DrainWorker,
    RemoveModel,
)

MAX_MODELS: Final = 256  # as many as metrics tell apart
MAX_DRAINED: Final = 4096

Change = AddModel | RemoveModel | ChangeModel | DrainWorker


def changed(catalogue: Catalogue, change: Change) -> Catalogue | ChangeRefused:
    """Said twice, a change is made once: the catalogue is the same then."""
    by_name = {model.name: model for model in catalogue.models}
    match change:
        case AddModel(model):
            return _added(catalogue, by_name, model)
        case RemoveModel(name):
            if name not in by_name:
                return _no_such_model(name)
            return _with_models(catalogue, tuple(model for model in catalogue.models if model.name != name))
        case ChangeModel(name):
            if name not in by_name:
                return _no_such_model(name)
            served = _served_otherwise(by_name[name], change)
            return _with_models(catalogue, tuple((by_name | {name: served}).values()))
        case DrainWorker():
            return _drained(catalogue, change)


def _added(
    catalogue: Catalogue, by_name: dict[ModelName, CatalogueModel], model: CatalogueModel
) -> Catalogue | ChangeRefused:
    try:
        check_model(ModelSource(model.name, model.path))
    except ConfigError as error:
        return ChangeRefused(str(error))
    known = by_name.get(model.name)
    if known is not None and known.fingerprint == model.fingerprint:
        return catalogue
    if known is not None:
        return ChangeRefused(f"there is another model {model.name!r}, from {known.path}: remove it first")
    if len(catalogue.models) >= MAX_MODELS:
        return ChangeRefused(f"there are {len(catalogue.models)} models, and no more than {MAX_MODELS} can be")
    return _with_models(catalogue, (*catalogue.models, model))


def _served_otherwise(model: CatalogueModel, change: ChangeModel) -> CatalogueModel:
    def of(key: LevelKey) -> float | int | None:
        if key in change.cleared:
            return None
        wanted = getattr(change.level, key)
        return getattr(model.level, key) if wanted is None else wanted

    level = LevelChange(of("ttft_s"), of("tbt_s"), of("priority"))  # type: ignore[arg-type]  # of each key's own type
    return replace(model, level=level, pinned=model.pinned if change.pinned is None else change.pinned)


def _drained(catalogue: Catalogue, change: DrainWorker) -> Catalogue | ChangeRefused:
    if change.drained == (change.worker in catalogue.drained):
        return catalogue
    if not change.drained:
        staying = tuple(worker for worker in catalogue.drained if worker != change.worker)
        return replace(catalogue, number=catalogue.number + 1, drained=staying)
    if len(catalogue.drained) >= MAX_DRAINED:
        return ChangeRefused(f"{len(catalogue.drained)} workers are drained, and no more than {MAX_DRAINED} can be")
    return replace(catalogue, number=catalogue.number + 1, drained=(*catalogue.drained, change.worker))


def _with_models(catalogue: Catalogue, models: tuple[CatalogueModel, ...]) -> Catalogue:
    return catalogue if models == catalogue.models else replace(catalogue, number=catalogue.number + 1, models=models)


def _no_such_model(name: ModelName) -> ChangeRefused:
    return ChangeRefused(f"there is no model {name!r}")
