"""Against the gateway's own objects, so that neither side changes alone."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from cli import fleet
from cli.fleet_objects import InFlight, ModelOnWorker, RequestList, Worker, WorkerList
from gateway.admission.in_flight import InFlight as GatewayInFlight
from gateway.http.admin import fleet as gateway_fleet
from shared.errors import KottosError
from shared.ids import Incarnation, ModelName, WorkerId


def test_workers_are_read_as_a_gateway_writes_them() -> None:
    models = [gateway_fleet.ModelOnWorker("m", "loading", 1, 2, 0.5, "")]
    worker = gateway_fleet.AdminWorker(WorkerId("w"), Incarnation("i"), True, 0.5, 10, 20, models, "")
    read = msgspec.json.decode(msgspec.json.encode(gateway_fleet.AdminWorkerList([worker])), type=WorkerList)
    assert read.data == [Worker("w", "i", True, 0.5, 10, 20, [ModelOnWorker("m", "loading", 1, 2, 0.5)])]
    assert read.data[0].num_sequences == 3


def test_requests_are_read_as_a_gateway_writes_them() -> None:
    request = GatewayInFlight("r", ModelName("m"), "t", "queued", 1.5, 2, None, 3, 4, WorkerId("w"))
    read = msgspec.json.decode(msgspec.json.encode(gateway_fleet.AdminRequestList([request])), type=RequestList)
    assert read.data == [InFlight("r", "m", "t", "queued", 1.5, 2, None, 3, 4, "w")]


class Gateway:
    """Answers each look at the workers with the next of these."""

    def __init__(self, *looks: Sequence[Worker]) -> None:
        self._looks = iter(looks)

    async def ask(self, method: str, path: str, kind: Any, body: object = None) -> WorkerList:
        return WorkerList(list(next(self._looks)))


def worker(num_running: int, *, draining: bool = True) -> Worker:
    return Worker("w", "i", draining, 0.1, 0, 0, [ModelOnWorker("m", "resident", num_running, 0)])


@pytest.fixture
def no_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "_LOOK_S", 0.0)


async def test_a_drained_worker_is_waited_for_until_it_has_nothing(no_sleep: None) -> None:
    said: list[tuple[str, float | None]] = []
    looks = [worker(0, draining=False)], [worker(4)], [worker(1)], [worker(0)]  # the first beat is from before
    done = await fleet.wait_until_idle(Gateway(*looks), "w", lambda *what: said.append(what), 9.0)  # type: ignore[arg-type]
    assert done == fleet.Drained("w", draining=True, num_sequences=0)
    assert said == [
        ("finishes 0 sequences", None),
        ("finishes 4 sequences", 0.0),
        ("finishes 1 sequences", 0.75),
    ]


@pytest.mark.parametrize(
    ("looks", "why"), [([[worker(1)], []], "is gone"), ([[worker(1)], [worker(1, draining=False)]], "was resumed")]
)
async def test_a_worker_that_goes_or_is_resumed_is_not_waited_for(
    looks: list[list[Worker]], why: str, no_sleep: None
) -> None:
    with pytest.raises(KottosError, match=why):
        await fleet.wait_until_idle(Gateway(*looks), "w", lambda *what: None, 9.0)  # type: ignore[arg-type]
