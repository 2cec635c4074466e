"""Importing tiny models: what the cache holds afterwards, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
import transformers
from tokenizers import Tokenizer

from benchmarks.tiny_models import BOS_ID, CONTEXT_LENGTH, EOS_ID, FAMILIES, VOCAB_SIZE, make_tiny_model
from gpu_worker.execution.probe import probe
from gpu_worker.importer.job import run_import
from shared.catalogue import (
    PLAIN_LAYOUT,
    KvShape,
    Manifest,
    ModelEntry,
    fingerprint,
    is_imported,
    read_card,
    read_manifest,
)
from shared.errors import ModelError
from shared.importing import Progress


def _entry(source: Path, cache: Path) -> ModelEntry:
    return ModelEntry(source.name, str(source), cache / "models" / fingerprint(str(source)))


def _import(source: Path, cache: Path, dtype: str = "float32") -> ModelEntry:
    entry = _entry(source, cache)
    entry.folder.parent.mkdir(parents=True, exist_ok=True)
    run_import(entry, dtype, probe, lambda progress: None)
    return entry


def _blob_tensors(entry: ModelEntry, dtype: str) -> dict[str, torch.Tensor]:
    manifest = read_manifest(entry, PLAIN_LAYOUT, dtype)
    assert manifest is not None
    blob = bytearray((entry.weights_folder(PLAIN_LAYOUT, dtype) / "weights.bin").read_bytes())
    return {
        name: torch.frombuffer(
            blob, dtype=getattr(torch, t.dtype), count=torch.Size(t.shape).numel(), offset=t.offset
        ).reshape(t.shape)
        for t in manifest.tensors
        for name in t.names
    }


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_blob_is_what_transformers_loads(family: str, dtype: str, tmp_path: Path) -> None:
    source = make_tiny_model(family, tmp_path / family)
    entry = _import(source, tmp_path / "cache", dtype)
    model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=getattr(torch, dtype))
    expected = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    found = _blob_tensors(entry, dtype)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


def test_card_and_text_files(tmp_path: Path) -> None:
    source = make_tiny_model("qwen3", tmp_path / "qwen3")
    generation = json.loads((source / "generation_config.json").read_text()) | {"eos_token_id": [7, EOS_ID]}
    (source / "generation_config.json").write_text(json.dumps(generation))
    entry = _import(source, tmp_path / "cache")
    card = read_card(entry)
    assert card is not None
    assert card.architecture == "Qwen3ForCausalLM"
    assert (card.context_length, card.vocab_size) == (CONTEXT_LENGTH, VOCAB_SIZE)
    assert (card.eos_token_ids, card.bos_token_id) == ((EOS_ID, 7), BOS_ID)
    assert card.kv == KvShape(num_layers=2, num_kv_heads=2, head_dim=32)
    assert card.has_chat_template
    text = "Grüße 世界 1234"
    written = Tokenizer.from_file(str(entry.folder / "tokenizer.json"))
    assert written.encode(text).ids == transformers.AutoTokenizer.from_pretrained(source)(text)["input_ids"]
    assert (entry.folder / "chat_template.jinja").read_text() == (source / "chat_template.jinja").read_text()
    assert sorted(path.name for path in entry.folder.parent.iterdir()) == [entry.folder.name]


def test_a_base_model_has_no_chat_template(tmp_path: Path) -> None:
    card = read_card(_import(make_tiny_model("llama", tmp_path / "m", chat_template=False), tmp_path / "cache"))
    assert card is not None
    assert not card.has_chat_template


def test_a_second_dtype_joins_the_first_and_damage_is_repaired(tmp_path: Path) -> None:
    source = make_tiny_model("llama", tmp_path / "m")
    entry = _import(source, tmp_path / "cache", "float32")
    before = (entry.weights_folder(PLAIN_LAYOUT, "float32") / "weights.bin").stat()
    _import(source, tmp_path / "cache", "bfloat16")
    assert is_imported(entry, PLAIN_LAYOUT, "float32")
    assert is_imported(entry, PLAIN_LAYOUT, "bfloat16")
    assert (entry.weights_folder(PLAIN_LAYOUT, "float32") / "weights.bin").stat().st_ino == before.st_ino
    (entry.weights_folder(PLAIN_LAYOUT, "bfloat16") / "weights.bin").write_bytes(b"short")
    assert not is_imported(entry, PLAIN_LAYOUT, "bfloat16")
    _import(source, tmp_path / "cache", "bfloat16")
    assert is_imported(entry, PLAIN_LAYOUT, "bfloat16")


def test_phases_come_in_order(tmp_path: Path) -> None:
    source = make_tiny_model("llama", tmp_path / "m")
    entry = _entry(source, tmp_path / "cache")
    entry.folder.parent.mkdir(parents=True)
    heard: list[Progress] = []
    run_import(entry, "float32", probe, heard.append)
    assert list(dict.fromkeys(progress.phase for progress in heard)) == ["tokenizer", "load", "write", "probe"]
    assert all(progress.done <= progress.total for progress in heard)


def _assert_refused(source: Path, cache: Path, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        _import(source, cache)
    assert list((cache / "models").iterdir()) == []


def test_pickles_are_refused(tmp_path: Path) -> None:
    source = make_tiny_model("llama", tmp_path / "m")
    weights = safetensors.torch.load_file(source / "model.safetensors")
    torch.save(weights, source / "pytorch_model.bin")
    (source / "model.safetensors").unlink()
    _assert_refused(source, tmp_path / "cache", "pickle")
    (source / "pytorch_model.bin").unlink()
    _assert_refused(source, tmp_path / "cache", "no .safetensors")


def test_foreign_code_is_refused_and_not_run(tmp_path: Path) -> None:
    source = make_tiny_model("llama", tmp_path / "m")
    settings = json.loads((source / "config.json").read_text())
    settings |= {"model_type": "mine", "auto_map": {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"}}
    (source / "config.json").write_text(json.dumps(settings))
    (source / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    _assert_refused(source, tmp_path / "cache", "code of their own")
    assert not (tmp_path / "ran").exists()


def test_missing_tensors_are_not_made_up(tmp_path: Path) -> None:
    source = make_tiny_model("llama", tmp_path / "m")
    weights = safetensors.torch.load_file(source / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    safetensors.torch.save_file(weights, source / "model.safetensors", {"format": "pt"})
    _assert_refused(source, tmp_path / "cache", r"lack 1 tensors.*up_proj")


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    source = make_tiny_model("llama", tmp_path / "m")
    content = (source / "model.safetensors").read_bytes()
    (source / "model.safetensors").write_bytes(content[: len(content) // 2])
    _assert_refused(source, tmp_path / "cache", "can't load")
    (source / "tokenizer.json").write_text("{")
    _assert_refused(source, tmp_path / "cache", "tokenizer")
    (source / "config.json").write_text("{")
    _assert_refused(source, tmp_path / "cache", r"config\.json")


def test_a_model_without_tokenizer_is_refused(tmp_path: Path) -> None:
    source = make_tiny_model("llama", tmp_path / "m")
    (source / "tokenizer.json").unlink()
    _assert_refused(source, tmp_path / "cache", "tokenizer")


def test_a_failed_probe_publishes_nothing(tmp_path: Path) -> None:
    def refuse(model: transformers.PreTrainedModel, folder: Path, weights_folder: Path, manifest: Manifest) -> None:
        assert (weights_folder / "weights.bin").stat().st_size == manifest.blob_bytes
        assert (folder / "config.json").exists()
        raise ModelError("computes something else")

    entry = _entry(make_tiny_model("llama", tmp_path / "m"), tmp_path / "cache")
    entry.folder.parent.mkdir(parents=True)
    with pytest.raises(ModelError, match="something else"):
        run_import(entry, "float32", refuse, lambda progress: None)
    assert list(entry.folder.parent.iterdir()) == []


def test_not_enough_disk_is_said_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    _assert_refused(make_tiny_model("llama", tmp_path / "m"), tmp_path / "cache", "only 1000 bytes are free")
