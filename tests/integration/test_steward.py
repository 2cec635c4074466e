"""The steward and those who ask it, over a real server with each user's permissions."""

import asyncio
from pathlib import Path

import pytest

from cli.broker import EmbeddedBroker
from cli.operator import ChangedModel, Operator
from cli.steward import Steward
from gateway.fleet.control import Control
from shared import subjects
from shared.bus import NatsBus
from shared.catalogue import ModelEntry, described
from shared.config import ModelSource
from shared.errors import BusUnavailable, ErrorCode, ModelError, RequestError
from shared.following import Entries, Follower
from shared.ids import Incarnation, ModelName, OwnerId, WorkerId
from shared.levels import LevelChange
from shared.messages import Catalogue, ChangeModel, ModelLoad, OwnerBeat, WorkerBeat
from tests.unit.gateway.tiny_models import write_source

A, B = ModelName("a"), ModelName("b")


class Service:
    """Follows the catalogue as a worker or a gateway does, and beats for both."""

    def __init__(self, broker: EmbeddedBroker, failing: str = "") -> None:
        self.worker, self.gateway = (NatsBus(broker.config(user), user) for user in ("worker", "gateway"))
        self.served: dict[ModelName, ModelEntry] = {}
        self.heard: asyncio.Queue[set[ModelName]] = asyncio.Queue()
        self._failing = failing
        self._follower = Follower(self.worker, Path("/cache"), self._follow)

    async def run(self) -> None:
        await self.worker.start()
        await self.gateway.start()
        async with self._follower.running():
            while True:
                await self.worker.publish(subjects.BEAT_WORKER, self._beat())
                await self.gateway.publish(subjects.BEAT_OWNER, OwnerBeat(OwnerId("gateway"), tuple(self.served)))
                await asyncio.sleep(0.1)

    def _follow(self, entries: Entries) -> None:
        self.served = dict(entries)
        self.heard.put_nowait(set(entries))

    def _beat(self) -> WorkerBeat:
        loads = tuple(
            ModelLoad(name, "failed", reason="has a state space")
            if name == self._failing
            else ModelLoad(name, "cached")
            for name in self.served
        )
        return WorkerBeat(WorkerId("worker-0"), Incarnation("life"), 1, loads, None, 0, 0, 0, {})


async def test_operators_change_what_services_serve(broker: EmbeddedBroker, tmp_path: Path) -> None:
    a, b = write_source(tmp_path / "a", A), write_source(tmp_path / "b", B)
    bad = write_source(tmp_path / "bad", "bad")
    service = Service(broker, failing="bad")
    steward = Steward(NatsBus(broker.config("steward"), "steward"), described([a]))
    operator = Operator(NatsBus(broker.config("operator"), "operator"))
    tasks = [asyncio.create_task(run()) for run in (steward.run, service.run)]
    async with operator.listening(), asyncio.timeout(30):
        assert await service.heard.get() == {A}
        status = await operator.add(b, lambda text, share: None)
        assert (status.name, status.state, status.workers) == ("b", "cached", {"worker-0": "cached"})
        assert await service.heard.get() == {A, B}
        with pytest.raises(ModelError, match="remove it first"):
            await operator.add(ModelSource(B, a.path), lambda text, share: None)
        with pytest.raises(ModelError, match="has a state space"):
            await operator.add(bad, lambda text, share: None)
        assert [status.name for status in await operator.listed()] == [A, B]  # what failed everywhere was taken back
        changed = await operator.change(B, LevelChange(ttft_s=1.5), (), pinned=True)
        assert changed == ChangedModel("b", pinned=True, changed=LevelChange(ttft_s=1.5))
        changed = await operator.change(B, LevelChange(priority=3), ("ttft_s",), pinned=None)
        assert changed == ChangedModel("b", pinned=True, changed=LevelChange(priority=3))
        with pytest.raises(ModelError, match="no model 'c'"):
            await operator.change(ModelName("c"), LevelChange(), (), pinned=True)
        await operator.remove(A, lambda text, share: None)
        assert set(service.served) == {B}
        with pytest.raises(ModelError, match="no such file or folder: /nowhere"):
            await operator.add(ModelSource("c", "/nowhere"), lambda text, share: None)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for bus in (service.worker, service.gateway):
        await bus.close()


async def test_without_a_steward_an_operator_hears_so(broker: EmbeddedBroker) -> None:
    operator = Operator(NatsBus(broker.config("operator"), "operator"))
    async with operator.listening():
        with pytest.raises(BusUnavailable, match="no stack"):
            await operator.listed()


async def test_a_gateway_asks_for_changes_and_says_what_was_refused(broker: EmbeddedBroker, tmp_path: Path) -> None:
    a = write_source(tmp_path / "a", A)
    bus, heard = NatsBus(broker.config("gateway"), "gateway"), list[Catalogue]()
    running = asyncio.create_task(Steward(NatsBus(broker.config("steward"), "steward"), described([a])).run())
    await bus.start()
    control = Control(bus, heard.append)
    async with asyncio.timeout(30):
        while not heard:
            try:
                await control.drain(WorkerId("worker-0"), drained=True)
            except RequestError as error:
                assert error.code is ErrorCode.UNAVAILABLE  # the steward is not there yet
        await control.change(ChangeModel(A, LevelChange(ttft_s=1.5), pinned=True))
        with pytest.raises(RequestError, match="there is no model 'b'") as caught:
            await control.change(ChangeModel(B, pinned=True))
        assert caught.value.code is ErrorCode.INVALID_REQUEST
    [drained, changed] = heard
    assert (drained.drained, changed.drained) == (("worker-0",), ("worker-0",))
    assert [(model.level, model.pinned) for model in changed.models] == [(LevelChange(ttft_s=1.5), True)]
    running.cancel()
    await asyncio.wait([running])
    await bus.close()
