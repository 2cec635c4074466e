"""Model folders are found by content, and what is not whole counts as absent."""

from pathlib import Path

import msgspec
import pytest

from shared.catalogue import (
    PLAIN_LAYOUT,
    KvShape,
    Manifest,
    ModelCard,
    ModelEntry,
    TensorEntry,
    demo_models,
    fingerprint,
    is_imported,
    open_catalogue,
    read_card,
    read_manifest,
)
from shared.config import Config, ModelSource
from shared.errors import ModelError

_CARD = ModelCard("LlamaForCausalLM", 512, 384, (1,), 0, KvShape(2, 2, 16), True, 1000)
_MANIFEST = Manifest(PLAIN_LAYOUT, "float32", 64, "ab", (TensorEntry(("a", "b"), 0, (2, 2), "float32"),))


def _model_folder(folder: Path, weights: bytes = b"weights") -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def _imported(folder: Path) -> ModelEntry:
    entry = ModelEntry("m", "source", folder)
    entry.weights_folder(PLAIN_LAYOUT, "float32").mkdir(parents=True)
    (folder / "card.json").write_bytes(msgspec.json.encode(_CARD))
    (entry.weights_folder(PLAIN_LAYOUT, "float32") / "manifest.json").write_bytes(msgspec.json.encode(_MANIFEST))
    (entry.weights_folder(PLAIN_LAYOUT, "float32") / "weights.bin").write_bytes(bytes(64))
    return entry


def test_fingerprint_depends_on_content_and_not_on_place(tmp_path: Path) -> None:
    first = _model_folder(tmp_path / "first")
    second = _model_folder(tmp_path / "second")
    (second / "README.md").write_text("of no matter")
    assert fingerprint(str(first)) == fingerprint(str(second))
    (second / "config.json").write_text('{"model_type": "llama"}')
    assert fingerprint(str(first)) != fingerprint(str(second))


@pytest.mark.parametrize("position", [0, 4_300_000, (9 << 20) - 1])
def test_fingerprint_samples_large_files_from_first_to_last_byte(position: int, tmp_path: Path) -> None:
    weights = bytearray(9 << 20)
    before = fingerprint(str(_model_folder(tmp_path / "before", bytes(weights))))
    weights[position] = 1
    assert fingerprint(str(_model_folder(tmp_path / "after", bytes(weights)))) != before


def test_fingerprint_depends_on_the_size_of_what_is_not_sampled(tmp_path: Path) -> None:
    prints = {fingerprint(str(_model_folder(tmp_path / str(size), bytes(size)))) for size in (9 << 20, (9 << 20) + 1)}
    assert len(prints) == 2


def test_hub_ids_count_by_name() -> None:
    assert fingerprint("owner/name") == fingerprint("owner/name") != fingerprint("owner/other")


@pytest.mark.parametrize("source", ["/nowhere/at/all", "../up", "./owner/name", "name", ""])
def test_a_source_that_does_not_exist_is_refused(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError):
        fingerprint(source)


def test_a_folder_without_config_and_a_file_without_gguf_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        fingerprint(str(tmp_path))
    file = tmp_path / "model.bin"
    file.touch()
    with pytest.raises(ModelError, match=r"\.gguf"):
        fingerprint(str(file))


def test_catalogue_has_every_configured_model_whether_imported_or_not(tmp_path: Path) -> None:
    source = str(_model_folder(tmp_path / "source"))
    catalogue = open_catalogue(Config(models=(ModelSource("a", source), ModelSource("b", source)), cache_dir=tmp_path))
    assert {name: entry.folder for name, entry in catalogue.items()} == dict.fromkeys(
        ("a", "b"), tmp_path / "models" / fingerprint(source)
    )
    assert all(read_card(entry) is None for entry in catalogue.values())


def test_card_and_manifest_come_back_as_written(tmp_path: Path) -> None:
    entry = _imported(tmp_path / "m")
    assert read_card(entry) == _CARD
    assert read_manifest(entry, PLAIN_LAYOUT, "float32") == _MANIFEST
    assert read_manifest(entry, PLAIN_LAYOUT, "bfloat16") is None
    assert is_imported(entry, PLAIN_LAYOUT, "float32")
    assert not is_imported(entry, PLAIN_LAYOUT, "bfloat16")


@pytest.mark.parametrize("damage", ["card.json", "plain-float32/manifest.json", "plain-float32/weights.bin"])
def test_what_is_damaged_or_absent_is_not_imported(damage: str, tmp_path: Path) -> None:
    entry = _imported(tmp_path / "m")
    (entry.folder / damage).write_bytes(b"{")
    assert not is_imported(entry, PLAIN_LAYOUT, "float32")
    (entry.folder / damage).unlink()
    assert not is_imported(entry, PLAIN_LAYOUT, "float32")


def test_a_damaged_card_says_which_file(tmp_path: Path) -> None:
    entry = _imported(tmp_path / "m")
    (entry.folder / "card.json").write_bytes(b"{}")
    with pytest.raises(ModelError, match=r"card\.json"):
        read_card(entry)


def test_demo_models_lie_in_the_cache() -> None:
    assert [model.path for model in demo_models(Path("/c"))] == ["/c/demo/smollm2-135m", "/c/demo/gemma3-270m"]
