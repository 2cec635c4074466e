import os
from pathlib import Path

import pytest

from gpu_worker.cost_file import CostCache, load_costs, save_costs
from gpu_worker.scheduling.costs import StepCosts

COSTS = StepCosts(1e-3, 2e-5, 3e-9, 4e-5, 5e-8)
OTHERS = StepCosts(2e-3, 2e-5, 3e-9, 4e-5, 5e-8)


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    save_costs(tmp_path / "costs.json", COSTS)
    assert load_costs(tmp_path / "costs.json") == COSTS
    assert os.listdir(tmp_path) == ["costs.json"]


def test_a_file_with_more_than_costs_is_read_as_well(tmp_path: Path) -> None:
    (tmp_path / "costs.json").write_text(
        '{"costs": {"base_s": 0.001, "prefill_s": 2e-5, "pair_s": 3e-9, "decode_s": 4e-5, "context_s": 5e-8}, "n": 1}'
    )
    assert load_costs(tmp_path / "costs.json") == COSTS


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\x00",
        b"[]",
        b'{"costs": {"base_s": 1}}',
        b'{"costs": {"base_s": 0, "prefill_s": 0, "pair_s": 0, "decode_s": 0, "context_s": 0}}',
        b'{"costs": {"base_s": 1, "prefill_s": -1, "pair_s": 0, "decode_s": 0, "context_s": 0}}',
        b'{"costs": {"base_s": 1e999, "prefill_s": 0, "pair_s": 0, "decode_s": 0, "context_s": 0}}',
    ],
)
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "costs.json").write_bytes(content)
    assert load_costs(tmp_path / "costs.json") is None


def test_no_file_is_no_costs(tmp_path: Path) -> None:
    assert load_costs(tmp_path / "costs.json") is None


def test_costs_are_those_of_a_machine_and_of_a_blob(tmp_path: Path) -> None:
    CostCache("one").save(tmp_path, "blob", COSTS)
    CostCache("another").save(tmp_path, "blob", OTHERS)
    assert CostCache("one").load(tmp_path, "blob") == COSTS
    assert CostCache("another").load(tmp_path, "blob") == OTHERS
    assert CostCache("one").load(tmp_path, "other weights") is None
    assert CostCache("a third").load(tmp_path, "blob") is None


def test_of_many_machines_the_last_eight_are_kept(tmp_path: Path) -> None:
    for i in range(10):
        CostCache(f"machine {i}").save(tmp_path, "blob", COSTS)
        for file in tmp_path.iterdir():  # whatever the resolution of the file system's clock
            os.utime(file, (file.stat().st_atime, file.stat().st_mtime - 10))
    kept = [i for i in range(10) if CostCache(f"machine {i}").load(tmp_path, "blob") is not None]
    assert kept == list(range(2, 10))


def test_a_folder_that_takes_no_files_costs_nothing_else(tmp_path: Path) -> None:
    CostCache("one").save(tmp_path / "absent", "blob", COSTS)
    assert CostCache("one").load(tmp_path / "absent", "blob") is None
