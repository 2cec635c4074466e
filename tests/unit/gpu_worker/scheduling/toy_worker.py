"""A worker without torch: real pool, real waiting line, pretended steps on a virtual clock."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from gpu_worker.memory.slab_pool import OutOfBlocks, ShapeClass, SlabPool
from gpu_worker.scheduling.costs import KnownCosts, StepCosts, step_shape
from gpu_worker.scheduling.policy import Costs, Limits, Policy, Turn, WorkerView, order_key
from gpu_worker.scheduling.step import admission, has_something_to_run, next_to_fetch
from gpu_worker.scheduling.waiting import WaitingLine
from shared.fair_line import OUTPUT_WEIGHT
from shared.ids import ModelName, RequestId

BLOCK_TOKENS = 4
STEP_S = 0.01  # about
COSTS = KnownCosts(StepCosts(STEP_S, STEP_S / 64, 0.0, STEP_S / 32, STEP_S / 16384), switch_s=20 * STEP_S)


def limits(max_step_tokens: int = 8, max_running: int = 4, turn_steps: int = 3) -> Limits:
    return Limits(max_step_tokens, max_running, turn_steps, BLOCK_TOKENS)


@dataclass(eq=False)
class ToySequence:
    request_id: RequestId
    num_tokens: int
    num_computed_tokens: int = 0
    first_due_at_s: float = 0.0
    priority: int = 0
    is_ready: bool = True
    end_tokens: int = 0  # finished when num_tokens gets there
    tbt_s: float = 0.1
    tenant: str = ""
    num_preemptions: int = 0
    num_prompt_tokens: int = field(init=False)
    place_s: float = field(init=False)
    blocks: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.num_prompt_tokens = self.num_tokens
        self.place_s = self.first_due_at_s

    @property
    def num_output_tokens(self) -> int:
        return self.num_tokens - self.num_prompt_tokens

    @property
    def max_output_tokens(self) -> int:
        return self.end_tokens - self.num_prompt_tokens

    @property
    def due_at_s(self) -> float:
        return self.first_due_at_s + self.num_output_tokens * self.tbt_s


@dataclass
class ToyModel:
    name: ModelName
    pool: SlabPool
    shape: ShapeClass
    is_resident: bool = True
    last_step: int = 0
    costs: Costs = COSTS
    running: list[ToySequence] = field(default_factory=list)
    waiting: WaitingLine[ToySequence] = field(default_factory=WaitingLine)
    is_at_hand: bool = True

    @property
    def num_free_blocks(self) -> int:
        return self.pool.num_free_blocks(self.shape)


def sequence(
    name: str, num_tokens: int, computed: int = 0, at: float = 0.0, priority: int = 0, tenant: str = ""
) -> ToySequence:
    return ToySequence(RequestId(name), num_tokens, computed, at, priority, tenant=tenant)


def request(name: str, prompt: int, output: int, at: float = 0.0, priority: int = 0, tenant: str = "") -> ToySequence:
    return ToySequence(RequestId(name), prompt, 0, at, priority, end_tokens=prompt + output, tenant=tenant)


def model(
    name: str,
    running: Iterable[ToySequence] = (),
    waiting: Iterable[ToySequence] = (),
    *,
    num_free_blocks: int = 1000,
    is_resident: bool = True,
    last_step: int = 0,
    is_at_hand: bool = True,
) -> ToyModel:
    """Alone on its memory."""
    pool = SlabPool(max(num_free_blocks, 1), 1, 1)
    toy = ToyModel(ModelName(name), pool, pool.register(1), is_resident, last_step, running=list(running))
    toy.is_at_hand = is_at_hand
    if num_free_blocks == 0:
        pool.allocate(toy.shape, 1)
    for one in waiting:
        toy.waiting.add(one)
    return toy


class ToyHost:
    """Host memory with room for a few blobs; one at a time is fetched from disk, as gpu_worker/fetching.py does."""

    def __init__(self, models: Iterable[ToyModel], num_places: int) -> None:
        self._models = {toy.name: toy for toy in models}
        self._num_places = num_places
        self._there: list[ModelName] = []  # the longest there first
        self._kept: dict[ModelName, int] = {}  # steps that each had since it was asked for
        self.fetching: ModelName | None = None
        self._tell()

    @property
    def awaited(self) -> list[ModelName]:
        return [name for name, num_steps in self._kept.items() if num_steps == 0]

    def look(self, view: WorkerView, turn_order: Callable[[], list[ModelName]]) -> None:
        self._tell()  # who was evicted from the device
        rules = admission(view)
        for name, num_steps in list(self._kept.items()):
            is_done = num_steps >= view.limits.turn_steps or not has_something_to_run(self._models[name], rules)
            if name != self.fetching and is_done:
                del self._kept[name]
        if self.fetching is None and (missing := next_to_fetch(view, turn_order())) is not None:
            self.fetching, self._kept[missing] = missing, 0

    def pass_over(self) -> None:
        """Nothing is planned, whatever is there."""
        self._kept = {name: num_steps for name, num_steps in self._kept.items() if name == self.fetching}

    def arrive(self) -> bool:
        """The blob that was asked for, if another may go for it."""
        gone = next((name for name in self._there if name not in self._kept), None)
        if self.fetching is None or (len(self._there) == self._num_places and gone is None):
            return False
        if len(self._there) == self._num_places and gone is not None:
            self._there.remove(gone)
        self._there.append(self.fetching)
        self.fetching = None
        self._tell()
        return True

    def note_step(self, model: ModelName) -> None:
        if model in self._kept:
            self._kept[model] += 1

    def _tell(self) -> None:
        for name, toy in self._models.items():
            toy.is_at_hand = toy.is_resident or name in self._there


class ToyWorker:
    """Carries out what a policy plans, with `num_places` for weights, and checks each step against the limits."""

    def __init__(
        self,
        policy: Policy,
        limits: Limits,
        block_bytes: Iterable[int],
        num_places: int,
        *,
        num_slabs: int = 6,  # of 1 KiB
        num_host_places: int | None = None,  # for blobs; None: all are there
        num_copy_steps: int = 0,  # that a preempted sequence is not ready; 0: its KV is computed again
        keeps_turn_steps: bool = False,  # the policy promises it
    ) -> None:
        self.policy, self.limits, self.num_places = policy, limits, num_places
        self.num_copy_steps, self.keeps_turn_steps = num_copy_steps, keeps_turn_steps
        self.now_s = 0.0
        self.pool = SlabPool(num_slabs * 1024, 1024, 64)
        self.models = {
            ModelName(f"m{i}"): ToyModel(ModelName(f"m{i}"), self.pool, self.pool.register(size), is_resident=False)
            for i, size in enumerate(block_bytes)
        }
        self.host = None if num_host_places is None else ToyHost(self.models.values(), num_host_places)
        self.num_steps = self.num_steps_since_copy = 0
        self.copied_at_step: list[int] = []
        self.copies: list[tuple[int, ToySequence]] = []  # of KV to host memory; they end at this step
        self.finished: dict[RequestId, int] = {}  # at which step

    def view(self) -> WorkerView:
        awaited = self.host.awaited if self.host is not None else ()
        return WorkerView(self.models.values(), self.limits, self.num_steps_since_copy, awaited=awaited)

    def submit(self, which: int, one: ToySequence) -> bool:
        """Like a worker's admission: what could never fit is not let in."""
        toy = self.models[ModelName(f"m{which}")]
        fits = -(-one.end_tokens // BLOCK_TOKENS) <= self.pool.capacity_blocks(toy.shape)
        if fits:
            toy.waiting.add(one)
            self.policy.enter(toy.name, one, self.now_s)
        return fits

    def cancel(self, which: int, one: ToySequence) -> None:
        toy = self.models[ModelName(f"m{which}")]
        (toy.waiting if one in toy.waiting else toy.running).remove(one)
        self.pool.free(toy.shape, one.blocks)
        self.policy.leave(toy.name, one)

    def step(self) -> Turn | None:
        """None when the worker is idle: it has no sequence."""
        self._look_at_host()
        while (turn := self.policy.plan(self.view(), self.now_s)) is None:
            if self.host is not None and self.host.fetching is not None:
                self.host.pass_over()
                assert self.host.arrive(), "idle, and the weights that it waits for never come"
                continue
            if not self.copies:
                assert not any(toy.running or toy.waiting for toy in self.models.values()), "idle though one could run"
                return None
            self._settle(self.copies[0][0])
            self._look_at_host()
        self.num_steps += 1
        self._settle(self.num_steps)
        toy = self.models[turn.model]
        self._check(turn, toy)
        self._activate(toy)
        ready = self._make_room(turn, toy)
        self.now_s += toy.costs.step_s(step_shape((num_tokens, one.num_computed_tokens) for one, num_tokens in ready))
        for one, num_tokens in ready:
            self._commit(toy, one, num_tokens)
        return turn

    def _check(self, turn: Turn, toy: ToyModel) -> None:
        known = {one.request_id: one for one in (*toy.running, *toy.waiting)}
        remaining = {key: known[key].num_tokens - known[key].num_computed_tokens for key in turn.num_tokens}
        assert turn.num_tokens and toy.is_at_hand
        assert all(0 < count <= remaining[key] for key, count in turn.num_tokens.items())
        decoding = {one.request_id for one in toy.running if one.num_tokens - one.num_computed_tokens == 1}
        num_decoding = len(decoding & turn.num_tokens.keys())
        assert set(list(turn.num_tokens)[:num_decoding]) <= decoding, "decoding ones come first"
        assert sum(n for key, n in turn.num_tokens.items() if key not in decoding) <= self.limits.max_step_tokens
        num_admitted = len(turn.num_tokens.keys() - {one.request_id for one in toy.running})
        assert num_admitted + sum(len(m.running) for m in self.models.values()) <= self.limits.max_running

    def _activate(self, toy: ToyModel) -> None:
        if not toy.is_resident:
            order = [self.models[name] for name in self._turn_order()]
            assert sorted(m.name for m in order) == sorted(self.models), "the order of turns has every model once"
            residents = [m for m in order if m.is_resident]
            if self.keeps_turn_steps and any(m.running for m in residents):
                assert self.num_steps_since_copy >= self.limits.turn_steps, "copied before its time"
            if len(residents) == self.num_places:
                residents[-1].is_resident = False
            toy.is_resident = True
            self.num_steps_since_copy = 0
            self.copied_at_step.append(self.num_steps)
            self.now_s += toy.costs.switch_s
        self.num_steps_since_copy += 1
        toy.last_step = self.num_steps
        if self.host is not None:
            self.host.note_step(toy.name)

    def _make_room(self, turn: Turn, toy: ToyModel) -> list[tuple[ToySequence, int]]:
        """As kv/room.py does."""
        ready: list[tuple[ToySequence, int]] = []
        were_running = list(toy.running)
        planned = [one for one in (*toy.running, *toy.waiting) if one.request_id in turn.num_tokens]
        for one in sorted(planned, key=order_key):
            num_tokens = turn.num_tokens[one.request_id]
            wanted = -(-(one.num_computed_tokens + num_tokens) // BLOCK_TOKENS) - len(one.blocks)
            is_newcomer = one not in were_running
            while is_newcomer or one in toy.running:  # else it was preempted above
                got = self.pool.allocate(toy.shape, wanted)
                if not isinstance(got, OutOfBlocks):
                    if is_newcomer:
                        toy.waiting.start(one)
                        toy.running.append(one)
                    one.blocks += got
                    ready.append((one, num_tokens))
                    break
                if is_newcomer:
                    break
                self._preempt_last()
        return ready

    def _preempt_last(self) -> None:
        running = [(order_key(one), toy, one) for toy in self.models.values() for one in toy.running]
        _, toy, victim = max(running, key=lambda entry: entry[0])
        self.pool.free(toy.shape, victim.blocks)
        victim.blocks = []
        victim.num_preemptions += 1
        if self.num_copy_steps:
            victim.is_ready = False
            self.copies.append((self.num_steps + self.num_copy_steps, victim))
        else:
            victim.num_computed_tokens = 0
        toy.running.remove(victim)
        toy.waiting.add(victim)

    def _look_at_host(self) -> None:
        if self.host is None:
            return
        if self.num_steps % 3 == 0:
            self.host.arrive()
        self.host.look(self.view(), self._turn_order)

    def _turn_order(self) -> list[ModelName]:
        return self.policy.turn_order(self.view(), self.now_s)

    def _settle(self, step: int) -> None:
        while self.copies and self.copies[0][0] <= step:
            self.copies.pop(0)[1].is_ready = True

    def _commit(self, toy: ToyModel, one: ToySequence, num_tokens: int) -> None:
        one.num_computed_tokens += num_tokens
        if one.num_computed_tokens == one.num_tokens:
            one.num_tokens += 1
            toy.waiting.charge(one.tenant, OUTPUT_WEIGHT)
            if one.num_tokens >= one.end_tokens:
                toy.running.remove(one)
                self.pool.free(toy.shape, one.blocks)
                self.policy.leave(toy.name, one)
                assert one.request_id not in self.finished
                self.finished[one.request_id] = self.num_steps
