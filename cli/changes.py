"""What becomes of the catalogue in force by one change. Pure: its steward sends what is decided here."""

from typing import Final

from msgspec.structs import replace

from shared.config import ModelSource, check_model
from shared.errors import ConfigError
from shared.ids import ModelName
from shared.messages import AddModel, Catalogue, CatalogueModel, ChangeRefused, RemoveModel

MAX_MODELS: Final = 256  # as many as metrics tell apart


def changed(catalogue: Catalogue, change: AddModel | RemoveModel) -> Catalogue | ChangeRefused:
    """Said twice, a change is made once: the catalogue is the same then."""
    by_name = {model.name: model for model in catalogue.models}
    match change:
        case AddModel(model):
            return _added(catalogue, by_name, model)
        case RemoveModel(name):
            if name not in by_name:
                return ChangeRefused(f"there is no model {name!r}")
            staying = tuple(model for model in catalogue.models if model.name != name)
            return replace(catalogue, number=catalogue.number + 1, models=staying)


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
    return replace(catalogue, number=catalogue.number + 1, models=(*catalogue.models, model))
