"""The default policy: who is short of time goes first, and everybody else takes turns.

A model's slack is the time until its most urgent token is due, less what computing it takes. While all models have
slack for a whole round of turns, the one that has not run for longest runs next: the smoothest for readers. A model
with less goes before them, the least slack first: the others lend it theirs. A token that is late already can't be
saved: its sequence lets those pass that can still be on time, and comes when they have a step's slack to lend.

Guarantees: a prompt stops streams of other resident models for one chunk at most, however much slack they have;
weights for which a turn waits take at most 1 / (1 + min_turn) of the device's time; weights that came ahead
of their turn are not evicted before their model ran `min_stay` times what bringing them took, or has no more work; a
model that has waited for `max_wait_s` goes before all that have not.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, takewhile
from math import inf
from typing import Final

from gpu_worker.scheduling.costs import StepShape
from gpu_worker.scheduling.policy import ModelView, SequenceView, TenantLineView, Turn, WorkerView, order_key
from gpu_worker.scheduling.step import Admission, admission, fill_step, has_something_to_run
from shared.ids import ModelName

MIN_TURN: Final = 2.0
MIN_STAY: Final = 0.5
MAX_WAIT_S: Final = 60.0
MIN_CHUNK_TOKENS: Final = 32  # of a prompt, however little slack others have

Rank = tuple[int, int, float]  # the least goes first


@dataclass(frozen=True, slots=True)
class _Need:
    """What a model with runnable work asks for, as of one view."""

    model: ModelView
    priority: int  # of its most important sequence
    slack_s: float  # until it has to run for a token that can be on time; inf: there is none
    has_late: bool  # sequences whose next token is late
    step_s: float  # of its next step
    waits_s: float  # since it last ran, or got its first sequence
    is_stopped: bool  # it streams, and a chunk of another model's prompt was computed since it last ran

    @property
    def name(self) -> ModelName:
        return self.model.name


class Deadline:
    def __init__(
        self, *, min_turn: float = MIN_TURN, min_stay: float = MIN_STAY, max_wait_s: float = MAX_WAIT_S
    ) -> None:
        """min_turn, min_stay: times the switch that it cost."""
        self._min_turn = min_turn
        self._min_stay = min_stay
        self._max_wait_s = max_wait_s
        self._planned: ModelName | None = None  # by the last call, which was at
        self._planned_at_s = 0.0
        self._planned_chunk = False  # of a prompt
        self._last_chunk_step = 0  # as models count their last steps
        self._ran_since_copy_s = inf  # that a turn waited for
        self._ran_s: dict[ModelName, float] = {}  # of resident models, since their weights came
        self._waits_since_s: dict[ModelName, float] = {}  # of models with sequences, whether they can run or not

    def enter(self, model: ModelName, sequence: SequenceView, now_s: float) -> None:
        return None

    def leave(self, model: ModelName, sequence: SequenceView) -> None:
        return None

    def plan(self, view: WorkerView, now_s: float) -> Turn | None:
        self._account(view, now_s)
        rules = admission(view)
        needs = self._needs(view, rules, now_s)
        needs = [need for need in needs if need.model.is_at_hand]
        if not needs:
            self._planned = None
            return None
        ranked = _ranked(needs, self._max_wait_s)
        chosen = self._choose(ranked, view)
        self._planned = chosen.name
        if not chosen.model.is_resident:
            self._ran_since_copy_s = -chosen.model.costs.switch_s
        chunk_tokens = _chunk_tokens(chosen, needs, view.limits.max_step_tokens)
        newcomers = _line(chosen.model, now_s, self._max_wait_s)
        turn = Turn(chosen.name, fill_step(chosen.model, chunk_tokens, rules, newcomers=newcomers))
        self._planned_chunk = any(num_tokens > 1 for num_tokens in turn.num_tokens.values())
        return turn

    def turn_order(self, view: WorkerView, now_s: float) -> list[ModelName]:
        """Who has to stay, then those with runnable work, the least slack first, then idle ones, the last used first.

        By slack although turns go by rank: who could do without its weights for longest gives them up.
        """
        needs = self._needs(view, admission(view), now_s)
        needs.sort(key=lambda need: (need.waits_s <= self._max_wait_s, need.slack_s, need.model.last_step))
        runnable = {need.name for need in needs}
        busy = [m for m in view.models if (m.running or m.waiting) and m.name not in runnable]
        idle = sorted((m for m in view.models if not m.running and not m.waiting), key=lambda m: -m.last_step)
        order = [*(need.model for need in needs), *busy, *idle]
        order.sort(key=lambda model: not self._has_to_stay(model))
        return [model.name for model in order]

    def _account(self, view: WorkerView, now_s: float) -> None:
        """The time since the last call was the planned model's."""
        passed_s = now_s - self._planned_at_s
        self._planned_at_s = now_s
        if self._planned is not None:
            self._ran_since_copy_s += passed_s
            self._waits_since_s.pop(self._planned, None)
            self._ran_s[self._planned] = self._ran_s.get(self._planned, 0.0) + passed_s
            if self._planned_chunk:
                ran = (model.last_step for model in view.models if model.name == self._planned)
                self._last_chunk_step = next(ran, self._last_chunk_step)
        self._ran_s = {m.name: self._ran_s.get(m.name, 0.0) for m in view.models if m.is_resident}
        with_work = (model.name for model in view.models if model.running or model.waiting)
        self._waits_since_s = {name: self._waits_since_s.get(name, now_s) for name in with_work}

    def _needs(self, view: WorkerView, rules: Admission, now_s: float) -> list[_Need]:
        return [
            _need(
                model,
                now_s,
                now_s - self._waits_since_s.get(model.name, now_s),
                self._max_wait_s,
                self._last_chunk_step,
            )
            for model in view.models
            if has_something_to_run(model, rules)
        ]

    def _choose(self, ranked: list[_Need], view: WorkerView) -> _Need:
        """The first, unless its weights have to come and others can run meanwhile, or the last copy is not paid yet."""
        first = ranked[0]
        resident = next((need for need in ranked if need.model.is_resident), None)
        if resident is None or resident is first:
            return first
        has_paid = self._ran_since_copy_s >= self._min_turn * first.model.costs.switch_s
        comes_ahead = view.limits.copies_beside_steps and first.name != view.no_place_ahead
        return first if has_paid and not comes_ahead else resident

    def _has_to_stay(self, model: ModelView) -> bool:
        ran_s = self._ran_s.get(model.name)
        has_work = bool(model.running or model.waiting)
        return ran_s is not None and has_work and ran_s < self._min_stay * model.costs.switch_s


def _need(model: ModelView, now_s: float, waits_s: float, max_wait_s: float, last_chunk_step: int) -> _Need:
    num_decoding = num_context_tokens = num_prefill_tokens = num_prefill_pairs = 0
    decoding_due_s = prefill_due_s = inf
    priority, has_late = 1 << 31, False
    first_waiting = next(_line(model, now_s, max_wait_s), None)
    for sequence in chain(model.running, () if first_waiting is None else (first_waiting,)):
        if not sequence.is_ready:
            continue
        if sequence.priority < priority:  # `min` would take a third of this loop's time
            priority = sequence.priority
        due_at_s = sequence.due_at_s
        is_late = due_at_s < now_s
        if is_late:
            has_late = True
        num_new = sequence.num_tokens - sequence.num_computed_tokens
        if num_new == 1:
            num_decoding += 1
            num_context_tokens += sequence.num_tokens
            if not is_late and due_at_s < decoding_due_s:
                decoding_due_s = due_at_s
        elif not is_late and due_at_s < prefill_due_s:
            prefill_due_s, num_prefill_tokens = due_at_s, num_new
            num_prefill_pairs = num_new * sequence.num_computed_tokens + num_new * (num_new + 1) // 2
    costs = model.costs
    decode_s = costs.step_s(StepShape(num_decoding, num_context_tokens))
    step_s = costs.step_s(StepShape(num_decoding, num_context_tokens, num_prefill_tokens, num_prefill_pairs))
    bring_s = 0.0 if model.is_resident else costs.switch_s
    slack_s = min(decoding_due_s - decode_s, prefill_due_s - step_s) - now_s - bring_s
    is_stopped = model.is_resident and num_decoding > 0 and model.last_step < last_chunk_step
    return _Need(model, priority, slack_s, has_late, step_s, waits_s, is_stopped)


def _line(model: ModelView, now_s: float, max_wait_s: float) -> Iterator[SequenceView]:
    """The waiting ones as they are let in: tenants by turns, and of each those that can still be on time before those
    that can't.

    But who is late by `max_wait_s` is its tenant's first; and priorities are above, as far as first ones have them.
    """
    return model.waiting.fairly(lambda line: _tenants_line(line, model, now_s, max_wait_s))


def _tenants_line(line: TenantLineView, model: ModelView, now_s: float, max_wait_s: float) -> Iterator[SequenceView]:
    first = next(iter(line))
    soon_s = now_s + model.costs.switch_s + model.costs.step_s(StepShape(len(model.running), 0, first.num_tokens))
    if first.place_s >= soon_s:  # all are on time
        yield from line
        return
    starved = (first.priority, now_s - max_wait_s, "")
    on_time = (first.priority, soon_s, "")
    if order_key(first) < starved:
        yield from line.before(starved)
    yield from line.since(on_time)
    yield from takewhile(lambda s: order_key(s) < on_time, line.since(starved))


def _ranked(needs: list[_Need], max_wait_s: float) -> list[_Need]:
    """Who goes first is first."""
    round_s = sum(need.step_s + (0.0 if need.model.is_resident else need.model.costs.switch_s) for need in needs)
    spare_s = _spare_s(need for need in needs if need.slack_s < round_s)

    def rank(need: _Need) -> Rank:
        if need.waits_s > max_wait_s:
            return (0, 0, -need.waits_s)
        if need.is_stopped:
            return (1, 0, need.model.last_step)
        if need.slack_s < round_s:
            return (3, need.priority, need.slack_s)
        if need.has_late and need.step_s <= spare_s:
            return (2, need.priority, -need.waits_s)
        return (4, 0, need.model.last_step)

    return sorted(needs, key=rank)


def _spare_s(needs: Iterable[_Need]) -> float:
    """What they can lend when they run one after the other, the least slack first."""
    spare_s, before_s = inf, 0.0
    for need in sorted(needs, key=lambda need: need.slack_s):
        spare_s = min(spare_s, need.slack_s - before_s)
        before_s += need.step_s
    return spare_s


def _chunk_tokens(chosen: _Need, needs: list[_Need], max_step_tokens: int) -> int:
    """Prompt tokens of the step, so that no other model becomes late by it, where that can be had."""
    costs, num_decoding = chosen.model.costs, len(chosen.model.running)
    base_s = costs.step_s(StepShape(num_decoding, 0))
    most_s = costs.step_s(StepShape(num_decoding, 0, max_step_tokens))
    spare_s = _spare_s(need for need in needs if need is not chosen)
    if spare_s < base_s or spare_s >= most_s:
        return max_step_tokens
    num_tokens = int((spare_s - base_s) / (most_s - base_s) * max_step_tokens)
    return min(max_step_tokens, max(MIN_CHUNK_TOKENS, num_tokens))
