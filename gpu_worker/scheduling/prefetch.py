"""Which model's weights come ahead of its turn, and who may go for them."""

from collections.abc import Mapping, Sequence

from gpu_worker.scheduling.policy import ModelView
from shared.ids import ModelName


def next_missing(
    models: Mapping[ModelName, ModelView], turn_order: Sequence[ModelName], in_use: ModelName | None
) -> ModelName | None:
    """The model with work whose turn comes soonest and that is not resident."""
    return next((name for name in coming_turns(models, turn_order, in_use) if not models[name].is_resident), None)


def evictable_ahead(
    models: Mapping[ModelName, ModelView],
    turn_order: Sequence[ModelName],
    in_use: ModelName | None,
    model: ModelName,
) -> list[ModelName] | None:
    """Who may go so that `model` comes ahead of its turn, the soonest turn first; None: it has no turn coming.

    Others go for the very next turn only, or what is evicted might be needed back before the newcomer is used.
    """
    turns = coming_turns(models, turn_order, in_use)
    if model not in turns:
        return None
    return [name for name in turn_order if name not in (model, in_use)] if turns[0] == model else []


def coming_turns(
    models: Mapping[ModelName, ModelView], turn_order: Sequence[ModelName], in_use: ModelName | None
) -> list[ModelName]:
    """Models at hand with work, the one whose turn comes next first, without the one whose turn it is."""
    others = (models[name] for name in turn_order if name != in_use)
    return [model.name for model in others if model.is_at_hand and (model.running or model.waiting)]
