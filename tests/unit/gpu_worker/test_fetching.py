"""Who asks for weights on disk, when, and how long what came is kept."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gpu_worker.fetching import Fetcher, FetchFailure
from gpu_worker.scheduling.policy import WorkerView
from gpu_worker.scheduling.round_robin import RoundRobin
from shared.errors import ModelError
from shared.ids import ModelName
from tests.unit.gpu_worker.scheduling.toy_worker import ToyModel, limits, model, sequence

A, B, C = (ModelName(name) for name in "abc")
TURN_STEPS = 2


class Host:
    """Memory for `num_places` blobs; what is held stays, and others go for what is fetched: the one not used longest.

    With a worker's fetcher and models that all have work, of which none is there.
    """

    def __init__(self, num_places: int, names: tuple[ModelName, ...] = (A, B, C)) -> None:
        self.num_places = num_places
        self.models: dict[ModelName, ToyModel] = {
            name: model(name, running=[sequence(f"of {name}", 9, computed=8)], is_at_hand=False) for name in names
        }
        self.held: Counter[ModelName] = Counter()
        self.asked: list[ModelName] = []
        self.error: ModelError | None = None
        self.freed = asyncio.Event()
        self.num_settled = 0
        self.now_s = 0.0
        self.fetcher = Fetcher(self, self._order, self._on_settled, lambda: self.now_s)

    def view(self) -> WorkerView:
        return WorkerView(self.models.values(), limits(turn_steps=TURN_STEPS), 0)

    def _order(self) -> list[ModelName]:
        return RoundRobin().turn_order(self.view(), self.now_s)

    def _on_settled(self) -> None:
        self.num_settled += 1

    async def fetch(self, name: ModelName) -> None:
        self.asked.append(name)
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        while len(there := [m for m in self.models.values() if m.is_at_hand]) >= self.num_places:
            loose = [m for m in there if not self.held[m.name]]
            if loose:
                min(loose, key=lambda m: m.last_step).is_at_hand = False
            else:
                self.freed.clear()
                await self.freed.wait()
        self.models[name].is_at_hand = True

    @contextmanager
    def hold(self, name: ModelName) -> Iterator[None]:
        self.held[name] += 1
        yield
        self.held[name] -= 1
        self.freed.set()

    async def look(self) -> None:
        self.fetcher.look(self.view())
        await self._let_run()

    async def pass_over(self) -> None:
        self.fetcher.pass_over()
        await self._let_run()

    async def _let_run(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    def step(self, number: int) -> ModelName | None:
        """As the engine does, without weights or tokens."""
        turn = RoundRobin().plan(self.view(), 0.0)
        if turn is None:
            return None
        assert self.models[turn.model].is_at_hand
        self.models[turn.model].last_step = number
        self.fetcher.note_step(turn.model)
        return turn.model


@pytest.mark.parametrize("num_places", [1, 2, 3])
async def test_with_too_little_memory_all_have_their_turns(num_places: int) -> None:
    host, steps = Host(num_places), []
    for number in range(1, 61):
        await host.look()
        step = host.step(number)
        if step is not None:
            steps.append(step)
    counts = Counter(steps)
    assert set(counts) == {A, B, C}
    assert min(counts.values()) >= max(counts.values()) // 3
    if num_places == 3:
        assert sorted(host.asked) == [A, B, C]
    if num_places == 1:  # each fetch is worth a turn
        assert len(host.asked) <= len(steps) // TURN_STEPS + 1


async def test_what_came_is_kept_until_it_has_run_for_a_turn() -> None:
    host = Host(1, (A, B))
    await host.look()
    assert (host.asked, host.num_settled) == ([A], 1)
    for number in range(1, TURN_STEPS + 1):
        assert host.step(number) == A
        assert host.models[A].is_at_hand
        await host.look()  # asks for b, which waits for the room
        assert host.asked == [A, B]
    assert (host.models[A].is_at_hand, host.models[B].is_at_hand) == (False, True)


async def test_what_came_is_not_kept_once_it_has_nothing_to_run() -> None:
    host = Host(1, (A, B))
    await host.look()
    host.models[A].running.clear()
    await host.look()
    await host.look()
    assert (host.models[A].is_at_hand, host.models[B].is_at_hand) == (False, True)


@pytest.mark.parametrize("num_steps", [0, 1])
async def test_what_came_is_not_kept_where_nothing_is_planned(num_steps: int) -> None:
    """A policy may end its turn early, or not begin it at all, and wait for another model alone."""
    host = Host(1, (A, B))
    await host.look()
    for number in range(1, num_steps + 1):
        assert host.step(number) == A
    host.now_s = 2.0  # b is overdue
    await host.look()
    assert (host.asked, host.models[A].is_at_hand) == ([A, B], True)
    await host.pass_over()
    assert (host.models[A].is_at_hand, host.models[B].is_at_hand) == (False, True)


async def test_its_first_step_is_told_when_it_was_asked_for() -> None:
    host = Host(1)
    host.now_s = 5.0
    await host.look()
    host.now_s = 9.0
    assert host.fetcher.awaited == [A]
    assert [host.fetcher.note_step(A) for _ in range(2)] == [5.0, None]
    assert host.fetcher.awaited == []
    assert host.fetcher.note_step(B) is None


async def test_nothing_is_asked_for_before_its_turn() -> None:
    host = Host(3, (A, B))
    host.models[A].is_at_hand = True
    await host.look()
    assert host.asked == []
    host.step(1)
    await host.look()
    assert host.asked == [B]


async def test_what_never_comes_to_the_front_is_asked_for_all_the_same() -> None:
    host = Host(3, (A, B))
    host.models[A].is_at_hand = True
    host.now_s = 5.0
    await host.look()
    host.now_s = 5.9
    await host.look()
    assert host.asked == []
    host.now_s = 6.0
    await host.look()
    assert host.asked == [B]


async def test_a_failure_is_told_once_and_the_next_is_asked_for() -> None:
    host = Host(1, (A, B))
    host.error = ModelError("corrupt")
    await host.look()
    assert host.fetcher.take_failures() == [FetchFailure(A, "corrupt")]
    assert host.fetcher.take_failures() == []
    assert (host.num_settled, host.held[A]) == (1, 0)
    host.models[A].running.clear()
    host.error = None
    await host.look()
    assert host.asked == [A, B]


async def test_closing_ends_what_waits_and_holds_nothing() -> None:
    host = Host(1, (A, B))
    await host.look()
    host.step(1)
    await host.look()
    assert (host.asked, host.models[B].is_at_hand) == ([A, B], False)
    await host.fetcher.close()
    assert host.held.total() == 0
