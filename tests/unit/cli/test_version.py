from pathlib import Path

from cli.version import devices, versions


def test_an_accelerator_is_named_by_its_driver(tmp_path: Path) -> None:
    for index in range(2):
        folder = tmp_path / f"proc/driver/nvidia/gpus/0000:0{index}:00.0"
        folder.mkdir(parents=True)
        (folder / "information").write_text("Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 16\n")
    assert devices(tmp_path) == ["NVIDIA H100 80GB HBM3"] * 2


def test_without_one_the_processor_is(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor : 0\nmodel name : Some CPU\n")
    [device] = devices(tmp_path)
    assert device.startswith("Some CPU, ") and device.endswith(" cores")


def test_all_that_serves_is_installed_here() -> None:
    found = versions()
    assert found.kottos and found.torch and found.transformers
    assert found.nats_server and found.nats_server[0].isdigit()
