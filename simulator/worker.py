"""One worker on a virtual clock. It takes turns as gpu_worker/engine.py does: collect, plan, make room, bring, step."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import inf

from gpu_worker.kv.room import Room
from gpu_worker.memory.arena import ALIGN_BYTES
from gpu_worker.memory.slab_pool import SlabPool
from gpu_worker.scheduling.costs import step_shape
from gpu_worker.scheduling.policy import Limits, Policy, Turn, WorkerView
from shared.fair_line import OUTPUT_WEIGHT
from shared.ids import ModelName
from simulator.kv import SimulatedKv
from simulator.link import Link
from simulator.loader import Kind, SimulatedLoader
from simulator.model import ModelSpec, SimulatedModel
from simulator.sequence import SimulatedSequence
from simulator.weights import SimulatedWeights

_QUANTUM_BYTES = 4096
_MAX_EMPTY_TURNS = 10_000  # one after another, while no time passes

HandOver = Callable[[SimulatedSequence, float], None]
Part = tuple[SimulatedSequence, int]  # and how many of its tokens a step computes


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    models: Sequence[ModelSpec]
    num_places: int  # weights of so many of the largest models fit
    link_bytes_per_s: float
    limits: Limits
    kv_bytes: int = 1 << 30
    slab_bytes: int = 4 << 20
    loop_s: float = 0.0002  # between two steps, the device idle


@dataclass(slots=True)
class Activity:
    """What a worker did."""

    num_steps: int = 0
    num_step_tokens: int = 0
    num_decoded: int = 0  # tokens of decoding sequences
    num_preemptions: int = 0
    busy_s: float = 0.0  # steps, without waiting for weights
    waited_s: float = 0.0  # for weights, with a step at hand
    ended_at_s: float = 0.0
    switches: Counter[Kind] = field(default_factory=Counter)  # turns of another model than the last step's
    num_loads: int = 0
    link_busy_s: float = 0.0


class SimulatedWorker:
    def __init__(self, spec: WorkerSpec, policy: Policy, hand_over: HandOver | None = None) -> None:
        """hand_over: gets each sequence after its first token, when host memory has its KV, and the time; None: they
        stay here to their ends."""
        self._hand_over = hand_over
        self._spec = spec
        self._policy = policy
        self._link = Link(spec.link_bytes_per_s)
        self._kv = SimulatedKv(
            SlabPool(spec.kv_bytes, spec.slab_bytes, _QUANTUM_BYTES), self._link, spec.limits.block_tokens
        )
        largest_bytes = max(model.blob_bytes for model in spec.models)
        place_bytes = -(-largest_bytes // ALIGN_BYTES) * ALIGN_BYTES
        weights = SimulatedWeights(spec.num_places * place_bytes)
        self.models = {model.name: self._model(model, weights) for model in spec.models}
        self._room = Room(self.models, self._kv)
        self._loader = SimulatedLoader(
            self._link, weights, self.models, self._turn_order, beside_steps=spec.limits.copies_beside_steps
        )
        self._now_s = 0.0
        self._num_steps_since_copy = spec.limits.turn_steps
        self._current: ModelName | None = None  # whose step was the last
        self.activity = Activity()

    def run(self, arrivals: Iterable[tuple[float, SimulatedSequence]], until_s: float) -> None:
        """arrivals: in order. Ends at `until_s`, or when all that arrived have ended."""
        coming = deque(arrivals)
        num_empty = 0
        while self._now_s < until_s:
            self._link.advance(self._now_s)
            while coming and coming[0][0] <= self._now_s:
                self._enter(coming.popleft()[1])
            turn = self._policy.plan(self._view(), self._now_s)
            if turn is None:
                wakes_at_s = min(coming[0][0] if coming else inf, self._link.next_end_s())
                if wakes_at_s == inf:
                    break
                self._now_s = max(self._now_s, wakes_at_s)
            num_empty = num_empty + 1 if turn is not None and not self._take(turn) else 0
            if num_empty > _MAX_EMPTY_TURNS:
                raise RuntimeError("the policy plans turns that can't be taken")
        self.activity.ended_at_s = self._now_s
        self.activity.num_loads = self._loader.num_loads
        self.activity.link_busy_s = self._link.busy_s

    @property
    def kv_used_bytes(self) -> int:
        return self._kv.pool.used_bytes

    def _model(self, spec: ModelSpec, weights: SimulatedWeights) -> SimulatedModel:
        block_bytes = spec.kv_token_bytes * self._spec.limits.block_tokens
        switch_s = spec.blob_bytes / self._spec.link_bytes_per_s
        return SimulatedModel(spec, self._kv.pool.register(block_bytes), self._kv, weights, switch_s)

    def _enter(self, sequence: SimulatedSequence) -> None:
        self.models[sequence.model].waiting.add(sequence)
        self._policy.enter(sequence.model, sequence, self._now_s)

    def _take(self, turn: Turn) -> bool:
        """Whether a step ran."""
        model = self.models[turn.model]
        parts = self._make_room(model, turn)
        if not parts:  # they wait for copies of KV, or gave way to sequences of other models
            return False
        activity = self.activity
        activity.num_steps += 1
        model.last_step = activity.num_steps
        arrival = self._loader.bring(model.name, self._now_s)
        if arrival.kind in ("copied", "streamed"):
            self._num_steps_since_copy = 0
        if model.name != self._current:
            activity.switches[arrival.kind] += 1
            self._current = model.name
        self._num_steps_since_copy += 1
        self._loader.prefetch()
        shape = step_shape((num_tokens, sequence.num_computed_tokens) for sequence, num_tokens in parts)
        step_s = model.costs.step_s(shape)
        ends_at_s = max(arrival.begins_at_s + step_s, arrival.arrived_at_s + model.last_layer * step_s)
        activity.busy_s += step_s
        activity.waited_s += ends_at_s - self._now_s - step_s
        activity.num_step_tokens += shape.num_decoding + shape.num_prefill_tokens
        activity.num_decoded += shape.num_decoding
        self._now_s = ends_at_s + self._spec.loop_s
        self._link.advance(self._now_s)
        self._commit(model, parts)
        return True

    def _make_room(self, model: SimulatedModel, turn: Turn) -> list[Part]:
        wanted = turn.num_tokens
        shares = [(s, wanted[s.request_id]) for s in model.running if s.request_id in wanted]
        if len(shares) < len(wanted):
            num_left = len(wanted) - len(shares)
            for sequence in model.waiting:
                if sequence.request_id in wanted:
                    shares.append((sequence, wanted[sequence.request_id]))
                    num_left -= 1
                    if num_left == 0:
                        break
        return self._room.make(model, shares)

    def _commit(self, model: SimulatedModel, parts: list[Part]) -> None:
        for sequence, num_tokens in parts:
            sequence.num_computed_tokens += num_tokens
            if sequence.num_computed_tokens == sequence.num_tokens:
                sequence.write(self._now_s)
                model.waiting.charge(sequence.tenant, OUTPUT_WEIGHT)
                if sequence.is_finished:
                    self.activity.num_preemptions += sequence.num_preemptions
                    model.finish(sequence)
                    self._policy.leave(model.name, sequence)
                elif self._hand_over is not None:
                    self._send(model, sequence, self._hand_over)

    def _send(self, model: SimulatedModel, sequence: SimulatedSequence, hand_over: HandOver) -> None:
        model.send(sequence, lambda: hand_over(sequence, self._link.now_s))
        self._policy.leave(model.name, sequence)

    def _view(self) -> WorkerView:
        return WorkerView(
            self.models.values(),
            self._spec.limits,
            self._num_steps_since_copy,
            no_place_ahead=self._loader.no_place_ahead,
        )

    def _turn_order(self) -> list[ModelName]:
        return self._policy.turn_order(self._view(), self._now_s)
