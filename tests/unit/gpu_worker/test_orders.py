"""Orders of operators, with the loader, the store and the fetcher played by one stand-in."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gpu_worker.orders import Orders
from shared.errors import ModelError
from shared.ids import ModelName
from shared.messages import LoadModel, UnloadModel


class Worker:
    """Two models on disk, `a` and `b`, whose weights are read when the test says so."""

    def __init__(self, *, copies_beside_steps: bool = False) -> None:
        self.models = {ModelName(name): self._model(name) for name in "ab"}
        self.copies_beside_steps = copies_beside_steps
        self.is_bringing = False
        self.has_place = True
        self.done: list[str] = []
        self.held: list[str] = []
        self.fetching: str = ""
        self.may_read = asyncio.Event()
        self.error: ModelError | None = None
        self.on_read = asyncio.Event()
        this = cast(Any, self)
        self.orders = Orders(cast(Any, self.models), this, this, this, this, self.on_read)

    def _model(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(
            name=name, is_leaving=False, is_pinned=False, is_resident=False, load_failure="", running=set(),
            waiting=set(), unguided=set(),
        )  # fmt: skip

    def load(self, name: str) -> str:
        return self.orders.take(LoadModel(ModelName(name)))

    def unload(self, name: str) -> str:
        return self.orders.take(UnloadModel(ModelName(name)))

    async def loop(self, num_rounds: int = 4) -> list[str]:
        """Rounds of the token loop -> what was done in them."""
        for _ in range(num_rounds):
            await self.orders.advance()
            if not any(model.running for model in self.models.values()):
                await self.orders.settle_in()
            await asyncio.sleep(0)
        done, self.done = self.done, []
        return done

    # --- as Loader, OrderedBlobs, Fetcher, Switches

    async def settle_in(self, model: str) -> bool:
        assert model in self.held
        return self._bring(model, "settled")

    def begin(self, model: str) -> bool:
        return self._bring(model, "begun")

    def _bring(self, model: str, how: str) -> bool:
        self.done.append(f"{how} {model}" if self.has_place else f"no place for {model}")
        self.models[ModelName(model)].is_resident = self.has_place
        return self.has_place

    async def fetch(self, model: str) -> None:
        assert model in self.held
        await self.may_read.wait()
        if self.error is not None:
            raise self.error
        self.done.append(f"read {model}")

    @contextmanager
    def hold(self, model: str) -> Iterator[None]:
        self.held.append(model)
        try:
            yield
        finally:
            self.held.remove(model)

    def let_go(self, model: str) -> None:
        self.done.append(f"let go of {model}")
        self.models[ModelName(model)].is_resident = False

    def is_fetching(self, model: str) -> bool:
        return model == self.fetching

    def forget(self, model: str) -> "Worker":
        """Of the loader to be awaited, of the others not."""
        return self

    def __await__(self) -> Iterator[None]:
        return iter(())


async def test_a_load_reads_and_then_comes_to_an_idle_device() -> None:
    worker = Worker()
    assert worker.load("a") == ""
    assert await worker.loop() == []  # the disk takes its time, and nobody waits for it
    worker.may_read.set()
    assert await worker.loop() == ["read a", "settled a"]
    assert await worker.loop() == [] and worker.held == []


async def test_beside_steps_it_comes_where_copies_cost_them_nothing_and_else_when_they_are_over() -> None:
    for copies_beside_steps in (True, False):
        worker = Worker(copies_beside_steps=copies_beside_steps)
        worker.may_read.set()
        worker.models[ModelName("b")].running.add("r")
        worker.load("a")
        assert await worker.loop() == (["read a", "begun a"] if copies_beside_steps else ["read a"])
        worker.models[ModelName("b")].running.clear()
        assert await worker.loop() == ([] if copies_beside_steps else ["settled a"])


async def test_one_at_a_time_comes_beside_steps() -> None:
    worker = Worker(copies_beside_steps=True)
    worker.may_read.set()
    worker.models[ModelName("b")].running.add("r")
    worker.is_bringing = True
    worker.load("a")
    assert await worker.loop() == ["read a"]
    worker.is_bringing = False
    assert await worker.loop() == ["begun a"]


async def test_without_a_place_on_the_device_it_stays_in_host_memory() -> None:
    worker = Worker()
    worker.may_read.set()
    worker.has_place = False
    worker.load("a")
    assert await worker.loop() == ["read a", "no place for a"]
    assert await worker.loop() == []


async def test_a_failure_is_kept_until_it_is_wanted_again() -> None:
    worker, model = Worker(), ModelName("a")
    worker.may_read.set()
    worker.error = ModelError("a bad file")
    worker.load("a")
    assert await worker.loop() == []
    assert worker.models[model].load_failure == "a bad file"
    worker.error = None
    worker.load("a")
    assert worker.models[model].load_failure == ""
    assert await worker.loop() == ["read a", "settled a"]


@pytest.mark.parametrize("work", ["running", "waiting", "unguided"])
async def test_an_unload_waits_for_the_last_sequence(work: str) -> None:
    worker = Worker()
    sequences = getattr(worker.models[ModelName("a")], work)
    sequences.add("r")
    assert worker.unload("a") == ""
    assert await worker.loop() == []
    sequences.clear()
    worker.fetching = "a"  # for a sequence that has gone since
    assert await worker.loop() == []
    worker.fetching = ""
    assert await worker.loop() == ["let go of a"]
    assert await worker.loop() == []


async def test_the_last_order_counts() -> None:
    worker = Worker()
    worker.load("a")
    await worker.loop()
    worker.unload("a")
    worker.may_read.set()
    assert await worker.loop() == ["let go of a"] and worker.held == []
    worker.models[ModelName("a")].running.add("r")
    worker.unload("a")
    worker.load("a")
    worker.models[ModelName("a")].running.clear()
    assert await worker.loop() == ["read a", "settled a"]


async def test_a_pinned_model_is_not_unloaded_and_pinning_calls_it_off() -> None:
    worker = Worker()
    model = worker.models[ModelName("a")]
    model.is_pinned = True
    assert worker.unload("a") == "the model is pinned"
    model.is_pinned = False
    model.running.add("r")
    worker.unload("a")
    model.is_pinned = True
    await worker.loop()
    model.is_pinned = False
    model.running.clear()
    assert await worker.loop() == []


async def test_what_is_not_served_is_refused_and_what_leaves_is_forgotten() -> None:
    worker = Worker()
    assert worker.load("c") == worker.unload("c") == "the model is not loaded on this worker"
    worker.load("a")
    worker.unload("b")
    worker.models[ModelName("b")].is_leaving = True
    del worker.models[ModelName("a")]
    assert await worker.loop() == [] and worker.held == []
    assert worker.load("b") == "the model is not loaded on this worker"


async def test_nothing_is_read_after_the_end() -> None:
    worker = Worker()
    worker.load("a")
    await worker.loop()
    await worker.orders.close()
    assert worker.held == []
