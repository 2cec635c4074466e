"""GGUF files: imported as they are, and converted to folders for the demo."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from tokenizers import Tokenizer

from gpu_worker.execution.probe import probe
from gpu_worker.importer.demo import prepare
from gpu_worker.importer.demo_sources import Demo
from gpu_worker.importer.job import run_import
from shared.catalogue import PLAIN_LAYOUT, Manifest, ModelEntry, fingerprint, read_card, read_manifest
from shared.errors import ModelError
from shared.importing import Progress
from tests.tiny_gguf import make_tiny_gguf

_PACKAGE = "kottos_tiny_gguf"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A GGUF file inside a package that is not to be imported, and the same model as a folder."""
    root = tmp_path_factory.mktemp("packages")
    (root / _PACKAGE).mkdir()
    (root / _PACKAGE / "__init__.py").write_text("raise RuntimeError('imported')")
    folder = root / "folder"
    return make_tiny_gguf(root / _PACKAGE / "tiny.gguf", folder), folder


@pytest.fixture
def demo(tiny: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Demo:
    file, _ = tiny
    monkeypatch.syspath_prepend(file.parent.parent)
    return Demo("tiny", ((_PACKAGE, file.name),), hashlib.sha256(file.read_bytes()).hexdigest(), splits_digits=True)


def _imported(source: Path, cache: Path, dtype: str) -> tuple[ModelEntry, Manifest]:
    entry = ModelEntry("tiny", str(source), cache / "models" / fingerprint(str(source)))
    entry.folder.parent.mkdir(parents=True, exist_ok=True)
    run_import(entry, dtype, probe, lambda progress: None)
    manifest = read_manifest(entry, PLAIN_LAYOUT, dtype)
    assert manifest is not None
    return entry, manifest


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_file_and_folder_give_the_same_blob(dtype: str, tiny: tuple[Path, Path], tmp_path: Path) -> None:
    file, folder = tiny
    entry, from_file = _imported(file, tmp_path, dtype)
    _, from_folder = _imported(folder, tmp_path, dtype)
    assert from_file == from_folder
    card = read_card(entry)
    assert card is not None
    assert card.architecture == "LlamaForCausalLM"
    assert card.has_chat_template


def test_demo_folder_holds_the_same_model_in_bf16(demo: Demo, tiny: tuple[Path, Path], tmp_path: Path) -> None:
    heard: list[Progress] = []
    prepare(demo, tmp_path / "demo" / "tiny", heard.append)
    assert list(dict.fromkeys(progress.phase for progress in heard)) == ["copy", "tokenizer", "load", "write"]
    weights = safetensors.torch.load_file(tmp_path / "demo" / "tiny" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    _, from_demo = _imported(tmp_path / "demo" / "tiny", tmp_path / "cache", "bfloat16")
    _, from_file = _imported(tiny[0], tmp_path / "cache", "bfloat16")
    assert from_demo == from_file
    tokenizer = Tokenizer.from_file(str(tmp_path / "demo" / "tiny" / "tokenizer.json"))
    assert "Digits" in tokenizer.to_str()
    assert tokenizer.decode(tokenizer.encode("a 1234 世界").ids) == "a 1234 世界"
    assert (tmp_path / "demo" / "tiny" / "chat_template.jinja").exists()
    assert {path.name for path in (tmp_path / "demo").iterdir()} == {".lock", "tiny"}


def test_demo_is_converted_once_and_again_when_damaged(demo: Demo, tmp_path: Path) -> None:
    target = tmp_path / "demo" / "tiny"
    heard: list[Progress] = []
    prepare(demo, target, heard.append)
    whole = (target / "model.safetensors").read_bytes()
    heard.clear()
    prepare(demo, target, heard.append)
    assert heard == []
    (target / "model.safetensors").write_bytes(whole[:-1])
    prepare(demo, target, heard.append)
    assert heard != []
    assert (target / "model.safetensors").read_bytes() == whole


def test_other_bytes_in_the_package_leave_nothing(demo: Demo, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="SHA-256"):
        prepare(replace(demo, sha256="0" * 64), tmp_path / "demo" / "tiny", lambda progress: None)
    assert [path.name for path in (tmp_path / "demo").iterdir()] == [".lock"]
