"""What is told of a switch, and when."""

import torch

from gpu_worker.loader import Arrival, CopyTime, Kind
from gpu_worker.switches import Switches
from shared.ids import ModelName
from shared.messages import ModelSwitched
from tests.unit.gpu_worker.stand_ins import WORKER

A, B = ModelName("a"), ModelName("b")
NUM_BYTES = 10


class Told:
    def __init__(self) -> None:
        self.now_s = 0.0
        self.switches = Switches(WORKER, lambda: self.now_s)

    def switch(self, model: ModelName, kind: Kind, copy_time: CopyTime | None = None, waited_s: float = 0.0) -> None:
        decided_at_s = self.now_s
        self.now_s += waited_s
        base = torch.zeros(NUM_BYTES, dtype=torch.uint8)
        self.switches.note(model, Arrival(base, kind, None, copy_time), decided_at_s)

    def one(self) -> ModelSwitched:
        (event,) = self.switches.drain()
        return event


def test_steps_of_one_model_are_no_switch() -> None:
    told = Told()
    told.switch(A, "resident", waited_s=0.5)
    told.switch(A, "resident")
    assert told.one() == ModelSwitched(WORKER, A, None, "resident", 0, 0.5)
    told.switch(A, "resident")
    assert told.switches.drain() == []
    told.switch(B, "copied", waited_s=2.0)
    assert told.one() == ModelSwitched(WORKER, B, A, "copied", NUM_BYTES, 2.0)
    told.switch(B, "from disk", waited_s=3.0)  # it had gone meanwhile
    assert told.one() == ModelSwitched(WORKER, B, B, "from disk", NUM_BYTES, 3.0)


def test_a_copy_ahead_of_its_turn_is_hidden_as_a_whole() -> None:
    told = Told()
    told.now_s = 10.0
    told.switch(A, "prefetched", CopyTime(started_at_s=3.0, ended_at_s=7.0))
    told.now_s = 12.0
    assert told.one().overlapped_s == 4.0


def test_a_stream_is_hidden_from_where_its_step_may_run() -> None:
    told = Told()
    copy_time = CopyTime(started_at_s=0.0)
    told.switch(A, "streamed", copy_time, waited_s=1.0)
    copy_time.ended_at_s = told.now_s = 6.0
    assert (event := told.one()).overlapped_s == 5.0
    assert event.waited_s == 1.0


def test_a_stream_that_goes_on_counts_until_its_step_is_over() -> None:
    told = Told()
    told.switch(A, "streamed", CopyTime(started_at_s=0.0))
    told.now_s = 2.0
    assert told.one().overlapped_s == 2.0


def test_what_was_waited_for_was_not_hidden() -> None:
    told = Told()
    told.switch(A, "streamed", CopyTime(started_at_s=0.0, ended_at_s=1.0), waited_s=3.0)
    assert told.one().overlapped_s == 0.0
