"""What is brought in when: on demand, ahead of its turn, or while it streams; and what has to go for it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from gpu_worker.device.base import Piece
from gpu_worker.device.cpu import CpuDevice
from gpu_worker.execution.streaming import Span, StreamOrder
from gpu_worker.loader import Loader
from gpu_worker.memory.arena import ALIGN_BYTES
from gpu_worker.weights import ArenaWeights
from shared.errors import ModelError
from shared.ids import ModelName

A, B, C, D = NAMES = tuple(ModelName(name) for name in "abcd")
BLOB_BYTES = 1000


class ManualTransfer:
    """Arrives when the test says so."""

    def __init__(self, pieces: Sequence[Piece], *, urgent: bool) -> None:
        self.pieces = pieces
        self.urgent = urgent
        self.num_bytes = sum(piece.source.numel() for piece in pieces)
        self.arrived_bytes = 0
        self._on_end: list[Callable[[], object]] = []

    def arrive(self) -> None:
        for destination, source in self.pieces:
            destination.copy_(source)
        self.arrived_bytes = self.num_bytes
        self._end()

    def when_ended(self, callback: Callable[[], object]) -> None:
        self._on_end.append(callback)

    def wait(self, num_bytes: int | None = None) -> None:
        raise NotImplementedError

    def hurry(self) -> None:
        self.urgent = True

    def cancel(self) -> None:
        self._end()

    def _end(self) -> None:
        for callback in self._on_end:
            callback()


@dataclass
class ManualCopies:
    transfers: list[ManualTransfer] = field(default_factory=list)

    def start(self, pieces: Sequence[Piece], *, urgent: bool) -> ManualTransfer:
        self.transfers.append(ManualTransfer(pieces, urgent=urgent))
        return self.transfers[-1]

    def close(self) -> None:
        raise NotImplementedError


class Place:
    """A device that holds `num_places` models; all of them have work, in the given order of turns."""

    def __init__(self, num_places: int, turns: str, *, link: bool = True, names: Sequence[ModelName] = NAMES) -> None:
        self.weights = ArenaWeights(torch.zeros(num_places * ALIGN_BYTES, dtype=torch.uint8))
        self.turns = [ModelName(name) for name in turns]
        self.copies = ManualCopies() if link else None
        self.num_copied = 0
        self.num_orders = 0  # asked for
        self.on_disk: set[ModelName] = set()  # models that are not in host memory
        self.pinned: set[ModelName] = set()
        device = cast(Any, SimpleNamespace(copies=self.copies, copy=CpuDevice(unified=False).copy))
        order = StreamOrder((Span(0, BLOB_BYTES),), 0, (BLOB_BYTES,))
        models = {name: self._model(name, order) for name in names}
        self.loader = Loader(device, self.weights, self, cast(Any, models), self._turn_order, self._on_device)

    def _turn_order(self) -> list[ModelName]:
        self.num_orders += 1
        return self.turns

    def _model(self, model: ModelName, order: StreamOrder) -> Any:
        class Model:
            name = model
            running = (object(),)
            waiting = ()
            executor = SimpleNamespace(stream_order=order)
            is_resident = property(lambda _: self.weights.is_resident(model))
            is_at_hand = property(lambda _: self.weights.is_placed(model) or model not in self.on_disk)
            is_pinned = property(lambda _: model in self.pinned)

        return Model()

    def get(self, model: ModelName) -> Tensor | None:
        return None if model in self.on_disk else torch.full((BLOB_BYTES,), ord(model), dtype=torch.uint8)

    async def _on_device(self, work: Callable[[], None]) -> None:
        self.num_copied += 1
        work()

    @property
    def newest(self) -> ManualTransfer:
        assert self.copies is not None
        return self.copies.transfers[-1]

    @property
    def num_transfers(self) -> int:
        assert self.copies is not None
        return len(self.copies.transfers)

    def arrive_all(self) -> None:
        assert self.copies is not None
        for transfer in self.copies.transfers:
            if transfer.arrived_bytes == 0:
                transfer.arrive()

    async def bring(self, model: ModelName) -> str:
        """Uses it now; what streams arrives meanwhile."""
        arrival = await self.loader.bring(model)
        if arrival.stream is not None:
            cast(ManualTransfer, arrival.stream.transfer).arrive()
            await settle()
        assert arrival.base.unique().tolist() == [ord(model)]
        return arrival.kind

    def resident(self) -> str:
        return "".join(model for model in (A, B, C, D) if self.weights.is_resident(model))


async def settle() -> None:
    """Lets the loader's tasks and callbacks run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_without_a_link_a_model_is_copied_before_its_step() -> None:
    place = Place(2, "ab", link=False)
    assert [await place.bring(model) for model in (A, B, A)] == ["copied", "copied", "resident"]
    assert place.num_copied == 2
    place.loader.prefetch()
    await settle()
    assert place.resident() == "ab"


async def test_over_a_link_it_streams_and_is_resident_when_all_has_arrived() -> None:
    place = Place(1, "ab")
    arrival = await place.loader.bring(A)
    assert (arrival.kind, place.newest.urgent, place.resident()) == ("streamed", True, "")
    place.newest.arrive()
    await settle()
    assert place.resident() == "a"
    assert await place.bring(A) == "resident"


async def test_the_next_model_comes_ahead_of_its_turn() -> None:
    place = Place(2, "abc")
    await place.bring(A)
    place.loader.prefetch()
    await settle()
    assert not place.newest.urgent
    place.newest.arrive()
    await settle()
    assert place.resident() == "ab"
    assert [await place.bring(B), await place.bring(B)] == ["prefetched", "resident"]


async def test_nobody_asks_for_the_order_of_turns_where_no_weights_are_missing() -> None:
    place = Place(2, "ab", names=(A, B))
    await place.bring(A)
    await place.bring(B)
    num_orders = place.num_orders
    place.loader.prefetch()
    assert place.num_orders == num_orders


async def test_a_turn_that_comes_before_its_weights_hurries_them() -> None:
    place = Place(2, "ab")
    await place.bring(A)
    place.loader.prefetch()
    await settle()
    arrival = await place.loader.bring(B)
    assert (arrival.kind, place.newest.urgent) == ("streamed", True)
    place.newest.arrive()
    await settle()
    assert place.num_transfers == 2


@pytest.mark.parametrize(("turns", "expected"), [("acbd", "ac"), ("adbc", "ad"), ("acdb", "ac")])
async def test_ahead_of_its_turn_a_model_evicts_what_comes_later(turns: str, expected: str) -> None:
    """A runs and B is resident, but somebody has a turn before B."""
    place = Place(2, turns)
    await place.bring(B)
    await place.bring(A)
    place.loader.prefetch()
    await settle()
    place.newest.arrive()
    await settle()
    assert place.resident() == expected


async def test_ahead_of_its_turn_a_model_evicts_nothing_that_comes_sooner() -> None:
    place = Place(2, "abcd")
    await place.bring(B)
    await place.bring(A)
    place.loader.prefetch()  # c would be next, after b
    await settle()
    assert place.resident() == "ab"
    assert place.num_transfers == 2


async def test_further_ahead_a_model_takes_free_memory_only() -> None:
    place = Place(3, "abcd")
    await place.bring(B)
    await place.bring(A)
    place.loader.prefetch()
    await settle()
    place.arrive_all()
    await settle()
    assert place.resident() == "abc"
    place.loader.prefetch()  # d would have to evict c
    await settle()
    assert place.resident() == "abc"


async def test_what_is_on_disk_only_does_not_hold_up_what_comes_after_it() -> None:
    place = Place(2, "abcd")
    place.on_disk = {B}
    await place.bring(A)
    place.loader.prefetch()
    await settle()
    place.newest.arrive()
    await settle()
    assert place.resident() == "ac"


async def test_what_is_on_its_way_needs_no_host_memory() -> None:
    place = Place(2, "ab")
    await place.bring(A)
    place.loader.prefetch()
    place.on_disk = {B}
    arrival = await place.loader.bring(B)
    assert arrival.kind == "streamed"


async def test_what_runs_is_never_evicted() -> None:
    place = Place(1, "ab")
    await place.bring(A)
    place.loader.prefetch()
    await settle()
    assert place.resident() == "a"
    assert place.num_transfers == 1


async def test_what_comes_ahead_of_its_turn_gives_way_to_whose_turn_it_is() -> None:
    place = Place(2, "abcd")
    await place.bring(A)
    place.loader.prefetch()  # b
    await settle()
    place.turns = [C, D, A, B]
    place.weights.drop(A)
    big = torch.zeros(2 * ALIGN_BYTES, dtype=torch.uint8)
    place.get = cast(Any, lambda model: big)  # type: ignore[method-assign]
    arrival = await place.loader.bring(C)
    assert arrival.base.numel() == 2 * ALIGN_BYTES
    assert place.resident() == ""


async def test_what_starts_ahead_of_its_turn_meanwhile_gives_way_too() -> None:
    place = Place(2, "abcd")
    await place.bring(A)
    place.loader.prefetch()  # b
    await settle()
    place.weights.drop(A)
    small, big = torch.zeros(BLOB_BYTES, dtype=torch.uint8), torch.zeros(2 * ALIGN_BYTES, dtype=torch.uint8)

    def start_another() -> None:
        placement = place.weights.place(D, small, [])
        assert placement is not None
        place.loader._start(D, placement, small, ahead=True)

    place.newest.when_ended(lambda: asyncio.get_running_loop().call_soon(start_another))
    place.get = cast(Any, lambda model: big)  # type: ignore[method-assign]
    arrival = await place.loader.bring(C)
    assert arrival.base.numel() == 2 * ALIGN_BYTES


async def test_what_is_evicted_before_its_turn_was_not_brought_in_ahead_of_it() -> None:
    place = Place(2, "ab")
    await place.bring(A)
    place.loader.prefetch()
    await settle()
    place.arrive_all()
    await settle()
    place.weights.drop(B)
    assert [await place.bring(B), await place.bring(B)] == ["streamed", "resident"]


async def test_what_can_not_fit_is_refused() -> None:
    place = Place(1, "a")
    big = torch.zeros(2 * ALIGN_BYTES, dtype=torch.uint8)
    place.get = cast(Any, lambda model: big)  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="don't fit"):
        await place.loader.bring(A)


async def test_closing_ends_what_is_on_its_way() -> None:
    place = Place(2, "ab")
    await place.bring(A)
    place.loader.prefetch()
    await settle()
    await place.loader.close()
    assert place.resident() == "a"
    assert place.weights.place(B, torch.zeros(BLOB_BYTES, dtype=torch.uint8), []) is not None


# --- pinned models ------------------------------------------------------------------------------


async def test_others_go_for_a_model_while_any_is_not_pinned() -> None:
    place = Place(3, "abcd", link=False)
    place.pinned = {B, C}  # whose turns come later than a's
    for model in (B, C, A, D, A, D):
        await place.bring(model)
    assert place.resident() == "bcd"


async def test_a_pinned_model_goes_where_another_one_has_no_place_else() -> None:
    place = Place(1, "ab", link=False)
    place.pinned = {A}
    assert [await place.bring(model) for model in (A, B, A)] == ["copied", "copied", "copied"]


async def test_no_pinned_model_goes_for_one_that_comes_ahead_of_its_turn() -> None:
    place = Place(2, "abc")
    place.pinned = {B}
    await place.bring(B)
    await place.bring(A)
    place.turns = [C, B, A]
    place.loader.prefetch()
    await settle()
    assert (place.resident(), place.num_transfers, place.loader.no_place_ahead) == ("ab", 2, C)


async def test_a_pinned_model_settles_in_and_unpinned_ones_go_for_it() -> None:
    place = Place(2, "abcd", link=False)
    place.pinned = {C, D}
    await place.bring(A)
    await place.bring(B)
    assert await place.loader.settle_in(C) and await place.loader.settle_in(D)
    assert place.resident() == "cd"
    place.pinned.add(A)
    assert not await place.loader.settle_in(A)  # there is no place
    place.on_disk.add(B)
    assert not await place.loader.settle_in(B)
    assert place.resident() == "cd"
