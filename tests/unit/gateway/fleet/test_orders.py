"""Which worker a model is loaded on."""

from msgspec.structs import replace

from gateway.fleet.orders import choose_worker
from shared.ids import ModelName, WorkerId
from shared.messages import ModelLoad, WorkerBeat
from tests.unit.gateway.builders import MODEL
from tests.unit.gateway.builders import beat as a_beat

OTHER = ModelName("other")


def beat(worker: str, state: str = "cached", num_running: int = 0, *, draining: bool = False) -> WorkerBeat:
    loads = ModelLoad(MODEL, state), ModelLoad(OTHER, "resident", num_running)  # type: ignore[arg-type]
    return replace(a_beat(worker=WorkerId(worker), models=loads), draining=draining)


def test_the_one_that_has_least_to_do() -> None:
    assert choose_worker([beat("a", num_running=2), beat("b", num_running=1), beat("c", num_running=3)], MODEL) == "b"


def test_the_one_that_has_it_on_the_device_whatever_else_it_does() -> None:
    assert choose_worker([beat("a"), beat("b", "resident", num_running=9)], MODEL) == "b"


def test_none_that_takes_no_work_or_does_not_serve_it() -> None:
    beats = [beat("a", draining=True), beat("b", "loading"), beat("c", "failed"), beat("d", "leaving")]
    assert choose_worker(beats, MODEL) is None
    assert choose_worker([*beats, beat("e", num_running=9)], MODEL) == "e"
    assert choose_worker([beat("a")], ModelName("unknown")) is None
