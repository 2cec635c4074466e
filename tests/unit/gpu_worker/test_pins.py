from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gpu_worker.outbox import Outbox
from gpu_worker.pins import Pins
from gpu_worker.roster import Roster
from gpu_worker.scheduling.round_robin import RoundRobin
from shared.errors import ModelError
from shared.ids import ModelName
from tests.unit.gpu_worker.stand_ins import LIFE, WORKER, assign, served_model


class Place:
    """Models, of which some are pinned; those of `fitting` find a place."""

    def __init__(self, names: str, *, pinned: str = "", fitting: str = "") -> None:
        self.models = {name: self._model(name, is_pinned=name in pinned) for name in names}
        self.fitting = fitting
        self.held: list[str] = []
        self.asked: list[str] = []
        self.pins = Pins(cast(Any, self.models), cast(Any, self), cast(Any, self))

    def _model(self, name: str, *, is_pinned: bool) -> SimpleNamespace:
        return SimpleNamespace(
            name=name, is_pinned=is_pinned, is_resident=False, is_at_hand=True, is_leaving=False, running=(), waiting=()
        )

    async def settle_in(self, model: str) -> bool:
        assert self.held == [model]
        self.asked.append(model)
        if model == "!":
            raise ModelError("damaged")
        self.models[model].is_resident = model in self.fitting
        return model in self.fitting

    @contextmanager
    def hold(self, model: str) -> Iterator[None]:
        self.held.append(model)
        try:
            yield
        finally:
            self.held.remove(model)

    async def advance_all(self) -> str:
        """What was brought in, in this order, until there is nothing to do."""
        while await self.pins.advance():
            pass
        return "".join(name for name in self.asked if self.models[name].is_resident)


async def test_pinned_models_come_one_by_one_and_others_do_not() -> None:
    place = Place("abcd", pinned="bd", fitting="abcd")
    assert await place.pins.advance() and place.asked == ["b"]
    assert await place.advance_all() == "bd"
    assert place.asked == ["b", "d"]


async def test_what_finds_no_place_or_fails_is_passed_over() -> None:
    place = Place("a!b", pinned="a!b", fitting="b")
    assert await place.advance_all() == "b"
    assert place.held == [] and place.asked.count("!") == 1  # and "a" again, as another one may go
    place.models["!"].is_pinned = False
    await place.pins.advance()
    place.models["!"].is_pinned = True
    await place.pins.advance()
    assert place.asked.count("!") == 2


@pytest.mark.parametrize("field", ["running", "waiting"])
async def test_nothing_comes_while_there_is_work(field: str) -> None:
    place = Place("ab", pinned="a", fitting="a")
    setattr(place.models["b"], field, (object(),))
    assert not await place.pins.advance() and place.asked == []


@pytest.mark.parametrize(("field", "value"), [("is_resident", True), ("is_at_hand", False), ("is_leaving", True)])
async def test_what_is_there_is_on_disk_or_leaves_is_not_asked_for(field: str, value: bool) -> None:
    place = Place("a", pinned="a", fitting="a")
    setattr(place.models["a"], field, value)
    assert not await place.pins.advance() and place.asked == []


def test_kv_gets_no_memory_of_what_is_pinned_or_has_work() -> None:
    roster = Roster(Outbox(WORKER, LIFE), RoundRobin(), 10)
    model, _ = served_model()
    assert not roster.keeps_weights(model.name)
    roster.models[model.name] = model
    assert not roster.keeps_weights(model.name)
    model.is_pinned = True
    assert roster.keeps_weights(model.name)
    model.is_pinned = False
    roster.assign(assign("r"), 0.0)
    assert roster.keeps_weights(ModelName("model"))
