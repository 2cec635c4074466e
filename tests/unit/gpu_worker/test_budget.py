from typing import Any

import pytest

from gpu_worker.budget import Budget, plan_budget
from gpu_worker.weights import check_fits
from shared.config import WorkerConfig
from shared.errors import ConfigError
from shared.ids import ModelName

MIB, GIB = 1 << 20, 1 << 30
SMOLLM2_BYTES, GEMMA_BYTES = 269_030_272, 536_198_464  # the demo models' blobs in bf16


def plan(limit_bytes: int, **worker: Any) -> Budget:
    return plan_budget(WorkerConfig(**worker), limit_bytes)


def test_unified_memory_has_no_weight_region() -> None:
    assert plan(10 * GIB) == Budget(
        unified=True, weight_bytes=0, kv_bytes=2 * GIB, host_bytes=4 * GIB, host_kv_bytes=GIB
    )


def test_default_kv_memory_is_4_gib_at_most() -> None:
    assert plan(100 * GIB).kv_bytes == 4 * GIB
    assert plan(100 * GIB, device_memory_bytes=40 * GIB).kv_bytes == 4 * GIB


def test_workers_share_the_machine() -> None:
    budget = plan(20 * GIB, num_workers=2)
    assert budget == Budget(True, weight_bytes=0, kv_bytes=2 * GIB, host_bytes=8 * GIB, host_kv_bytes=GIB)


def test_device_memory_is_weights_and_kv() -> None:
    budget = plan(10 * GIB, device_memory_bytes=5 * GIB)
    assert budget == Budget(
        unified=False, weight_bytes=4 * GIB, kv_bytes=GIB, host_bytes=5 * GIB // 2, host_kv_bytes=5 * GIB // 8
    )
    budget = plan(10 * GIB, device_memory_bytes=5 * GIB, kv_memory_bytes=2 * GIB, host_memory_bytes=GIB)
    assert budget == Budget(unified=False, weight_bytes=3 * GIB, kv_bytes=2 * GIB, host_bytes=GIB, host_kv_bytes=GIB)


def test_760_mib_hold_each_demo_model_and_not_both() -> None:
    region_bytes = plan(16 * GIB, device_memory_bytes=760 * MIB).weight_bytes
    for num_bytes in (SMOLLM2_BYTES, GEMMA_BYTES):
        check_fits(ModelName("m"), num_bytes, region_bytes)
    with pytest.raises(ConfigError):
        check_fits(ModelName("both"), SMOLLM2_BYTES + GEMMA_BYTES, region_bytes)


def test_a_model_is_checked_in_whole_pages_with_the_numbers_and_the_keys() -> None:
    check_fits(ModelName("m"), 4 * MIB, 5 * MIB)
    with pytest.raises(ConfigError, match=r"'m' needs 4194305 bytes .* has 5242880 .*device_memory.*kv_memory"):
        check_fits(ModelName("m"), 4 * MIB + 1, 5 * MIB)


def test_kv_memory_must_leave_room_for_weights() -> None:
    with pytest.raises(ConfigError, match=r"kv_memory_bytes = 2 GiB leaves nothing .*device_memory_bytes = 2 GiB"):
        plan(10 * GIB, device_memory_bytes=2 * GIB, kv_memory_bytes=2 * GIB)


@pytest.mark.parametrize(
    "worker",
    [
        {"num_workers": 3, "device_memory_bytes": 4 * GIB},
        {"num_workers": 3, "kv_memory_bytes": 4 * GIB},
        {"kv_memory_bytes": GIB, "host_memory_bytes": 10 * GIB},
        {"device_memory_bytes": 6 * GIB, "host_memory_bytes": 5 * GIB},
        {"device_memory_bytes": 10 * GIB},  # nothing left for the host cache
    ],
)
def test_what_the_machine_has_not_got_is_refused(worker: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"this machine allows 10 GiB: lower .*host_memory.*num_workers"):
        plan(10 * GIB, **worker)


def test_what_exactly_fits_is_accepted() -> None:
    plan(10 * GIB, num_workers=2, device_memory_bytes=4 * GIB, host_memory_bytes=2 * GIB)


def test_host_kv_memory_is_as_much_as_kv_memory_at_most() -> None:
    assert plan(100 * GIB, kv_memory_bytes=GIB).host_kv_bytes == GIB
    budget = plan(10 * GIB, kv_memory_bytes=GIB, host_kv_memory_bytes=5 * GIB)
    assert (budget.host_bytes, budget.host_kv_bytes) == (2 * GIB, 5 * GIB)
    with pytest.raises(ConfigError, match=r"lower .*worker\.host_kv_memory"):
        plan(10 * GIB, kv_memory_bytes=GIB, host_kv_memory_bytes=9 * GIB)
