"""The default policy: who is short of time goes first, and everybody else takes turns.

A model's slack is the time until its most urgent token is due, less what computing it takes. While all models have
slack for a whole round of turns, the one that has not run for longest runs next: the smoothest for readers. A model
with less goes before them, the earliest due token first: the others lend it their slack. A token that is late already
can't be saved: its sequence lets those pass that can still be on time, and comes when they have a step's slack to lend.

Two guarantees: copying weights in takes the device at most 1 / (1 + min_turn) of its time, and what was brought in
ahead of its turn is not evicted before it ran `min_turn` times what bringing it took; no model with work waits for more
than `max_wait_s` and the turns of those who wait as long.
"""

from dataclasses import dataclass
from itertools import islice
from math import inf
from typing import Final

from gpu_worker.scheduling.costs import StepShape
from gpu_worker.scheduling.policy import ModelView, SequenceView, Turn, WorkerView
from gpu_worker.scheduling.step import Admission, admission, fill_step, has_something_to_run
from shared.ids import ModelName

MIN_TURN: Final = 2.0
MAX_WAIT_S: Final = 60.0
MIN_CHUNK_TOKENS: Final = 32  # of a prompt, however little slack others have
_MAX_SCANNED: Final = 16  # of those who wait
_AHEAD_TURNS: Final = 3  # a model that has not come ahead of its turn by then comes at its turn

Rank = tuple[int, int, float]  # the least goes first


@dataclass(frozen=True, slots=True)
class _Need:
    """What a model with runnable work asks for, as of one view."""

    model: ModelView
    priority: int  # of the most important sequence
    slack_s: float  # until it has to run for a token that can be on time; inf: there is none
    has_late: bool  # sequences whose next token is late
    step_s: float  # of its next step
    waits_s: float  # since it last ran, or first could have

    @property
    def name(self) -> ModelName:
        return self.model.name


class Deadline:
    def __init__(self, *, min_turn: float = MIN_TURN, max_wait_s: float = MAX_WAIT_S) -> None:
        """min_turn: times the switch that it cost."""
        self._min_turn = min_turn
        self._max_wait_s = max_wait_s
        self._planned: ModelName | None = None  # by the last call, which was at
        self._planned_at_s = 0.0
        self._ran_since_copy_s = inf  # that a turn waited for
        self._ran_s: dict[ModelName, float] = {}  # of resident models, since their weights came
        self._waits_since_s: dict[ModelName, float] = {}  # of models with runnable work

    def enter(self, model: ModelName, sequence: SequenceView, now_s: float) -> None:
        return None

    def leave(self, model: ModelName, sequence: SequenceView) -> None:
        return None

    def plan(self, view: WorkerView, now_s: float) -> Turn | None:
        self._account(view, now_s)
        rules = admission(view)
        needs = self._needs(view, rules, now_s)
        self._waits_since_s = {need.name: now_s - need.waits_s for need in needs}
        needs = [need for need in needs if need.model.is_at_hand]
        if not needs:
            self._planned = None
            return None
        ranked = _ranked(needs, self._max_wait_s)
        chosen = self._choose(ranked, view)
        self._planned = chosen.name
        if not chosen.model.is_resident:
            self._ran_since_copy_s = -chosen.model.costs.switch_s
        chunk_tokens = _chunk_tokens(chosen, ranked, view.limits.max_step_tokens)
        return Turn(chosen.name, fill_step(chosen.model, chunk_tokens, rules))

    def turn_order(self, view: WorkerView, now_s: float) -> list[ModelName]:
        """Who was brought in and has not had its least turn, then as ranked, then idle ones, the last used first."""
        needs = self._needs(view, admission(view), now_s)
        ranked = [need.model for need in _ranked(needs, self._max_wait_s)]
        busy = [m for m in view.models if (m.running or m.waiting) and m not in ranked]
        idle = sorted((m for m in view.models if not m.running and not m.waiting), key=lambda m: -m.last_step)
        order = [*ranked, *busy, *idle]
        return [model.name for model in sorted(order, key=lambda model: not self._is_protected(model))]

    def _account(self, view: WorkerView, now_s: float) -> None:
        """The time since the last call was the planned model's."""
        passed_s = now_s - self._planned_at_s
        self._planned_at_s = now_s
        self._ran_s = {m.name: self._ran_s.get(m.name, 0.0) for m in view.models if m.is_resident}
        if self._planned is None:
            return
        self._ran_since_copy_s += passed_s
        self._waits_since_s[self._planned] = now_s
        if self._planned in self._ran_s:
            self._ran_s[self._planned] += passed_s

    def _needs(self, view: WorkerView, rules: Admission, now_s: float) -> list[_Need]:
        return [
            _need(model, now_s, now_s - self._waits_since_s.get(model.name, now_s))
            for model in view.models
            if has_something_to_run(model, rules)
        ]

    def _choose(self, ranked: list[_Need], view: WorkerView) -> _Need:
        first = ranked[0]
        resident = next((need for need in ranked if need.model.is_resident), None)
        if resident is None or resident is first:
            return first
        switch_s = first.model.costs.switch_s
        has_paid = self._ran_since_copy_s >= self._min_turn * switch_s
        comes_ahead = view.limits.copies_beside_steps and first.name != view.no_place_ahead
        return first if has_paid and not comes_ahead else resident

    def _is_protected(self, model: ModelView) -> bool:
        ran_s = self._ran_s.get(model.name)
        has_work = bool(model.running or model.waiting)
        return ran_s is not None and has_work and ran_s < self._min_turn * model.costs.switch_s


def _need(model: ModelView, now_s: float, waits_s: float) -> _Need:
    num_decoding = num_context_tokens = num_prefill_tokens = num_prefill_pairs = 0
    decoding_due_s = prefill_due_s = inf
    priority, has_late = 1 << 31, False
    for sequence in model.running:
        if not sequence.is_ready:
            continue
        priority = min(priority, sequence.priority)
        due_at_s = sequence.due_at_s
        has_late |= due_at_s < now_s
        num_new = sequence.num_tokens - sequence.num_computed_tokens
        if num_new == 1:
            num_decoding += 1
            num_context_tokens += sequence.num_tokens
            if now_s <= due_at_s < decoding_due_s:
                decoding_due_s = due_at_s
        elif now_s <= due_at_s < prefill_due_s:
            prefill_due_s, num_prefill_tokens = due_at_s, num_new
    for sequence in islice(model.waiting, _MAX_SCANNED):
        priority = min(priority, sequence.priority)
        due_at_s = sequence.due_at_s
        has_late |= due_at_s < now_s
        if now_s <= due_at_s:
            if due_at_s < prefill_due_s:
                prefill_due_s, num_prefill_tokens = due_at_s, sequence.num_tokens - sequence.num_computed_tokens
            break
    num_prefill_pairs = num_prefill_tokens * num_prefill_tokens // 2
    costs = model.costs
    decode_s = costs.step_s(StepShape(num_decoding, num_context_tokens)) if num_decoding else 0.0
    step_s = decode_s
    if num_prefill_tokens:
        step_s = costs.step_s(StepShape(num_decoding, num_context_tokens, num_prefill_tokens, num_prefill_pairs))
    bring_s = 0.0 if model.is_resident else costs.switch_s
    slack_s = min(decoding_due_s - decode_s, prefill_due_s - step_s) - now_s - bring_s
    return _Need(model, priority, slack_s, has_late, max(step_s, decode_s), waits_s)


def _ranked(needs: list[_Need], max_wait_s: float) -> list[_Need]:
    """Who goes first is first."""
    round_s = sum(need.step_s + (0.0 if need.model.is_resident else need.model.costs.switch_s) for need in needs)
    tight = sorted((need for need in needs if need.slack_s < round_s), key=lambda need: need.slack_s)
    spare_s = _spare_s(tight)

    def rank(need: _Need) -> Rank:
        if need.waits_s > max_wait_s:
            return (0, 0, -need.waits_s)
        if need.slack_s < round_s:
            return (2, need.priority, need.slack_s)
        if need.has_late and need.step_s <= spare_s:
            return (1, need.priority, -need.waits_s)
        return (3, 0, need.model.last_step)

    return sorted(needs, key=rank)


def _spare_s(tight: list[_Need]) -> float:
    """What they can lend when they run one after the other."""
    spare_s, before_s = inf, 0.0
    for need in tight:
        spare_s = min(spare_s, need.slack_s - before_s)
        before_s += need.step_s
    return spare_s


def _chunk_tokens(chosen: _Need, ranked: list[_Need], max_step_tokens: int) -> int:
    """Prompt tokens of the step, so that no other model becomes late by it."""
    spare_s = _spare_s(sorted((need for need in ranked if need is not chosen), key=lambda need: need.slack_s))
    costs = chosen.model.costs
    base_s = costs.step_s(StepShape(len(chosen.model.running), 0))
    token_s = (costs.step_s(StepShape(len(chosen.model.running), 0, max_step_tokens)) - base_s) / max_step_tokens
    if spare_s < base_s or spare_s >= base_s + token_s * max_step_tokens:
        return max_step_tokens
    return min(max_step_tokens, max(MIN_CHUNK_TOKENS, int((spare_s - base_s) / token_s)))
