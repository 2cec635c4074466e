"""The simple fair policy: models take turns of one step; only copies of weights make a turn longer."""

from gpu_worker.scheduling.policy import SequenceView, Turn, WorkerView
from gpu_worker.scheduling.step import admission, fill_step, is_runnable
from shared.ids import ModelName


class RoundRobin:
    """The model that has not run for longest runs next.

    Resident models alternate every step. A model whose weights have to be copied in comes when `turn_steps` steps have
    run since the last copy, or at once if no resident model has work. So of N models with work none waits for more
    than about N * turn_steps steps. Priorities order the sequences within a model, not the models.
    """

    def enter(self, model: ModelName, sequence: SequenceView, now_s: float) -> None:
        return None

    def leave(self, model: ModelName, sequence: SequenceView) -> None:
        return None

    def plan(self, view: WorkerView, now_s: float) -> Turn | None:
        rules = admission(view)
        candidates = [model for model in view.models if is_runnable(model, rules)]
        if view.num_steps_since_copy < view.limits.turn_steps:
            candidates = [model for model in candidates if model.is_resident] or candidates
        model = min(candidates, key=lambda model: model.last_step, default=None)
        if model is None:
            return None
        return Turn(model.name, fill_step(model, view.limits.max_step_tokens, rules))

    def turn_order(self, view: WorkerView, now_s: float) -> list[ModelName]:
        """Models with sequences as in the cycle, then idle ones, the most recently used first."""
        busy = sorted((m for m in view.models if m.running or m.waiting), key=lambda m: m.last_step)
        idle = sorted((m for m in view.models if not m.running and not m.waiting), key=lambda m: -m.last_step)
        return [model.name for model in (*busy, *idle)]
