import pytest
import torch
from torch import Tensor

from gpu_worker.device.cpu import CpuDevice
from gpu_worker.memory.arena import ALIGN_BYTES
from gpu_worker.weights import ArenaWeights, Placement, UnifiedWeights, check_fits
from shared.budget import plan_budget
from shared.config import WorkerConfig
from shared.errors import ConfigError
from shared.ids import ModelName

MIB = 1 << 20
SMOLLM2_BYTES, GEMMA_BYTES = 269_030_272, 536_198_464  # the demo models' blobs in bf16
A, B, C, D = (ModelName(name) for name in "abcd")


def blob(number: int, num_bytes: int = 1000) -> Tensor:
    return torch.full((num_bytes,), number, dtype=torch.uint8)


class Weights(ArenaWeights):
    """On a region of `num_places` times the least size."""

    def __init__(self, num_places: int) -> None:
        self.region = torch.zeros(num_places * ALIGN_BYTES, dtype=torch.uint8)
        super().__init__(self.region)

    def put(self, model: ModelName, source: Tensor, turn_order: list[ModelName]) -> Placement:
        placement = self.place(model, source, turn_order)
        assert placement is not None
        placement.copy(CpuDevice(unified=False))
        self.settle(model)
        return placement

    def offset(self, placement: Placement) -> int:
        return placement.base.data_ptr() - self.region.data_ptr()


def test_a_model_is_copied_in_once() -> None:
    weights, source = Weights(1), torch.randint(256, (5000,), dtype=torch.uint8)
    assert (weights.is_resident(A), weights.resident(A)) == (False, None)
    placement = weights.put(A, source, [A])
    assert placement.source is source
    assert torch.equal(placement.base, source)
    assert torch.equal(weights.region[:5000], source)
    resident = weights.resident(A)
    assert resident is not None
    assert (resident.data_ptr(), len(resident), weights.is_resident(A)) == (placement.base.data_ptr(), 5000, True)


def test_as_many_as_fit_are_resident_side_by_side() -> None:
    weights = Weights(2)
    first, second = weights.put(A, blob(1), [A, B]), weights.put(B, blob(2), [A, B])
    assert (weights.offset(first), weights.offset(second)) == (0, ALIGN_BYTES)
    assert first.base.unique().tolist() == [1]
    assert weights.is_resident(A)


@pytest.mark.parametrize(("turn_order", "evicted"), [([C, A, B], B), ([C, B, A], A)])
def test_who_comes_last_in_the_turn_order_goes(turn_order: list[ModelName], evicted: ModelName) -> None:
    weights = Weights(2)
    for number, model in enumerate((A, B)):
        weights.put(model, blob(number), [A, B])
    weights.put(C, blob(2), turn_order)
    assert {model for model in (A, B, C) if weights.is_resident(model)} == {A, B, C} - {evicted}


def test_neighbours_go_together_for_a_larger_model() -> None:
    weights = Weights(3)
    for number, model in enumerate((A, B, C)):
        weights.put(model, blob(number), [])
    placement = weights.put(D, blob(9, 2 * ALIGN_BYTES), [D, A, B, C])
    assert weights.offset(placement) == ALIGN_BYTES
    assert [model for model in (A, B, C, D) if weights.is_resident(model)] == [A, D]
    assert placement.base.unique().tolist() == [9]


def test_a_model_goes_to_its_former_address() -> None:
    weights = Weights(3)
    former = {model: weights.offset(weights.put(model, blob(1), [])) for model in (A, B, C)}
    for model in (A, B, C):
        weights.drop(model)
    for model in (C, B, A):
        assert weights.offset(weights.put(model, blob(1), [])) == former[model]


def test_a_failed_copy_leaves_its_place_to_others() -> None:
    weights = Weights(1)
    weights.place(A, blob(1), [A])
    weights.drop(A)
    assert not weights.is_resident(A)
    assert weights.put(B, blob(2), []).base.unique().tolist() == [2]
    assert weights.place(A, blob(1), [B]) is not None


def test_what_is_on_its_way_is_neither_used_nor_evicted() -> None:
    weights = Weights(1)
    assert weights.place(A, blob(1), []) is not None
    assert (weights.is_resident(A), weights.resident(A)) == (False, None)
    assert weights.place(B, blob(2), [A]) is None
    weights.settle(A)
    assert weights.is_resident(A)
    assert weights.place(B, blob(2), [A]) is not None
    assert not weights.is_resident(A)


def test_what_can_not_be_evicted_stays() -> None:
    weights = Weights(1)
    weights.put(A, blob(1), [A])
    assert weights.place(B, blob(2), []) is None
    assert weights.is_resident(A)
    assert not weights.is_resident(B)


def test_unified_memory_uses_blobs_where_they_lie() -> None:
    mapped, source = dict[ModelName, Tensor](), blob(1)
    weights = UnifiedWeights(mapped)
    assert not weights.is_resident(A)
    mapped[A] = source
    assert weights.is_resident(A)
    assert weights.resident(A) is source
    placement = weights.place(A, source, [])
    assert placement is not None
    assert (placement.base.data_ptr(), placement.source) == (source.data_ptr(), None)
    weights.drop(A)
    assert weights.is_resident(A)
    del mapped[A]
    assert not weights.is_resident(A)


def test_760_mib_hold_each_demo_model_and_not_both() -> None:
    region_bytes = plan_budget(WorkerConfig(device_memory_bytes=760 * MIB), 16 << 30).weight_bytes
    for num_bytes in (SMOLLM2_BYTES, GEMMA_BYTES):
        check_fits(ModelName("m"), num_bytes, region_bytes)
    with pytest.raises(ConfigError):
        check_fits(ModelName("both"), SMOLLM2_BYTES + GEMMA_BYTES, region_bytes)


def test_a_model_is_checked_in_whole_pages_with_the_numbers_and_the_keys() -> None:
    check_fits(ModelName("m"), 4 * MIB, 5 * MIB)
    with pytest.raises(ConfigError, match=r"'m' needs 4194305 bytes .* has 5242880 .*device_memory.*kv_memory"):
        check_fits(ModelName("m"), 4 * MIB + 1, 5 * MIB)
