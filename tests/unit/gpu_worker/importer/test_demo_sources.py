"""Demo models come from their packages, which are not imported, byte for byte as known."""

import hashlib
import sys
from pathlib import Path

import pytest

from gpu_worker.importer.demo_sources import DEMOS, Demo, write_gguf
from shared.catalogue import DEMO_NAMES
from shared.errors import ModelError
from shared.importing import Progress

_PARTS = (("kottos_fake_part_one", "data/x.00"), ("kottos_fake_part_two", "x.01"))


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for (package, file), content in zip(_PARTS, (b"first ", b"second"), strict=True):
        (tmp_path / package / file).parent.mkdir(parents=True)
        (tmp_path / package / "__init__.py").write_text("raise RuntimeError('imported')")
        (tmp_path / package / file).write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_parts_are_joined_in_order_and_reported(packages: Path) -> None:
    heard: list[Progress] = []
    demo = Demo("d", _PARTS, hashlib.sha256(b"first second").hexdigest())
    write_gguf(demo, packages / "whole", heard.append)
    assert (packages / "whole").read_bytes() == b"first second"
    assert heard[-1] == Progress("copy", 12, 12, "d")
    assert not any(package in sys.modules for package, _ in _PARTS)


def test_other_bytes_are_refused(packages: Path) -> None:
    with pytest.raises(ModelError, match="SHA-256"):
        write_gguf(Demo("d", _PARTS, "0" * 64), packages / "whole", lambda progress: None)


def test_an_absent_package_names_the_extra(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="demo"):
        write_gguf(Demo("d", (("kottos_absent", "x"),), ""), tmp_path / "whole", lambda progress: None)


def test_every_demo_model_is_known() -> None:
    assert tuple(DEMOS) == DEMO_NAMES
