from typing import Any

import pytest

from shared.budget import Budget, check_runnable, plan_budget
from shared.config import WorkerConfig, load_config
from shared.errors import ConfigError

MIB, GIB = 1 << 20, 1 << 30


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


def test_memory_beyond_the_machine_is_refused_before_anything_starts() -> None:
    overrides: dict[str, object] = {"worker.num_workers": 3, "worker.device_memory": "2GiB"}
    config = load_config(overrides | {"worker.host_memory": "1.5GiB"}, {})
    check_runnable(config, 8 * GIB)
    with pytest.raises(ConfigError, match=r"7\.5 GiB are configured, this machine allows 7 GiB"):
        check_runnable(config, 7 * GIB)


def test_cuda_is_refused_until_it_lands() -> None:
    with pytest.raises(ConfigError, match="the CUDA back end has not landed yet"):
        check_runnable(load_config({"worker.device": "cuda"}, {}), 8 * GIB)
