"""The model catalogue: where an imported model lies in the cache folder, and its card.

    <cache>/models/<fingerprint>/                    config.json, tokenizer.json, chat_template.jinja, card.json
    <cache>/models/<fingerprint>/<layout>-<dtype>/   weights.bin, manifest.json: as a device back end wants them

An importer writes into a temporary folder beside it and renames it, so a folder that exists is complete.
The gateway reads the card and the text assets only; workers read both.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from shared.config import Config, ModelSource
from shared.errors import ModelError
from shared.ids import ModelName
from shared.levels import LevelChange
from shared.messages import CatalogueModel

LAYOUT_VERSION: Final = 1
DEMO_NAMES: Final = ("smollm2-135m", "gemma3-270m")
PLAIN_LAYOUT: Final = "plain"  # torch's row-major tensors under their module paths

_CONTENT_PATTERNS: Final = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")
_NUM_SAMPLES: Final = 16  # of each file,
_SAMPLE_BYTES: Final = 256 << 10  # spread evenly from its first byte to its last
_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class KvShape(msgspec.Struct, frozen=True):
    """KV of one token: K and V of every layer."""

    num_layers: int
    num_kv_heads: int
    head_dim: int

    def token_bytes(self, itemsize: int) -> int:
        return self.num_layers * 2 * self.num_kv_heads * self.head_dim * itemsize


class ModelCard(msgspec.Struct, frozen=True):
    """What everybody may know of a model without its weights."""

    architecture: str  # transformers' class name
    context_length: int
    vocab_size: int
    eos_token_ids: tuple[int, ...]
    bos_token_id: int | None
    kv: KvShape
    has_chat_template: bool
    num_parameters: int


class TensorEntry(msgspec.Struct, frozen=True):
    """A parameter's place in the blob. `names` has every module path that shares it (tied weights)."""

    names: tuple[str, ...]
    offset: int  # bytes from the blob's start, a multiple of 64
    shape: tuple[int, ...]
    dtype: str  # torch's name, e.g. "bfloat16"


class Manifest(msgspec.Struct, frozen=True):
    """weights.bin: one contiguous blob in execution layout."""

    layout: str
    dtype: str  # of the model's weights
    blob_bytes: int
    sha256: str  # of the blob
    tensors: tuple[TensorEntry, ...]


class ModelEntry(msgspec.Struct, frozen=True):
    """A served model: its name and its folder in the cache."""

    name: str
    source: str
    folder: Path
    level: LevelChange = LevelChange()  # where its service level differs from the configured one
    pinned: bool = False  # its weights stay on devices, unless another model would have no place

    def weights_folder(self, layout: str, dtype: str) -> Path:
        return self.folder / f"{layout}-{dtype}"


def open_catalogue(config: Config) -> dict[ModelName, ModelEntry]:
    """The configured models by name, imported or not. Raises ModelError for a source that does not exist."""
    return entries(config.cache_dir, described(config.models))


def described(models: Iterable[ModelSource]) -> tuple[CatalogueModel, ...]:
    """As messages tell of them. Reads a part of each. Raises ModelError for a source that does not exist."""
    return tuple(CatalogueModel(ModelName(model.name), model.path, fingerprint(model.path)) for model in models)


def entries(cache_dir: Path, models: Iterable[CatalogueModel]) -> dict[ModelName, ModelEntry]:
    models_dir = cache_dir.expanduser() / "models"
    return {
        model.name: ModelEntry(model.name, model.path, models_dir / model.fingerprint, model.level, model.pinned)
        for model in models
    }


def demo_models(cache_dir: Path) -> tuple[ModelSource, ...]:
    """Where `python -m gpu_worker.importer.demo` puts the demo models, as Hugging Face folders."""
    return tuple(ModelSource(name, str(cache_dir.expanduser() / "demo" / name)) for name in DEMO_NAMES)


def fingerprint(source: str) -> str:
    """Names the content of a folder or a GGUF file: 32 hex digits, the same wherever the source lies.

    SHA-256 over LAYOUT_VERSION and, for each relevant file in name order, its name, size and evenly spread samples
    (small files whole), so that large models cost milliseconds. A hub id that is no local path counts by its name:
    the revision fetched first stays. Raises ModelError.
    """
    digest = hashlib.sha256(f"kottos {LAYOUT_VERSION}\n".encode())
    path = Path(source).expanduser()
    if path.exists():
        for file in _content_files(path):
            size = file.stat().st_size
            digest.update(f"{file.name}\n{size}\n".encode())
            for sample in _samples(file, size):
                digest.update(sample)
    elif is_hub_id(source):
        digest.update(f"hub {source}\n".encode())
    else:
        raise ModelError(f"no such file or folder: {source}")
    return digest.hexdigest()[:32]


def is_hub_id(source: str) -> bool:
    """Whether it could be `owner/name` on the model hub."""
    return _HUB_ID.fullmatch(source) is not None


def _content_files(path: Path) -> list[Path]:
    if path.is_file():
        if path.suffix != ".gguf":
            raise ModelError(f"not a model folder or a .gguf file: {path}")
        return [path]
    files = sorted({file for pattern in _CONTENT_PATTERNS for file in path.glob(pattern) if file.is_file()})
    if not any(file.name == "config.json" for file in files):
        raise ModelError(f"not a model folder: no config.json in {path}")
    return files


def _samples(file: Path, size: int) -> Iterator[bytes]:
    with file.open("rb") as opened:
        if size <= _NUM_SAMPLES * _SAMPLE_BYTES:
            yield opened.read()
            return
        for i in range(_NUM_SAMPLES):
            opened.seek(i * (size - _SAMPLE_BYTES) // (_NUM_SAMPLES - 1))
            yield opened.read(_SAMPLE_BYTES)


def read_card(entry: ModelEntry) -> ModelCard | None:
    """None until the model is imported. Raises ModelError for a damaged card."""
    return _read(entry.folder / "card.json", ModelCard)


def read_manifest(entry: ModelEntry, layout: str, dtype: str) -> Manifest | None:
    """None until the model is imported for this layout and dtype. Raises ModelError for a damaged manifest."""
    return _read(entry.weights_folder(layout, dtype) / "manifest.json", Manifest)


def is_imported(entry: ModelEntry, layout: str, dtype: str) -> bool:
    """Whether card, manifest and blob are there and whole; an import replaces what is not."""
    try:
        manifest = read_manifest(entry, layout, dtype)
        blob = entry.weights_folder(layout, dtype) / "weights.bin"
        return manifest is not None and read_card(entry) is not None and blob.stat().st_size == manifest.blob_bytes
    except (ModelError, OSError):
        return False


_Record = TypeVar("_Record", ModelCard, Manifest)


def _read(file: Path, kind: type[_Record]) -> _Record | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise ModelError(f"damaged file {file}: {error}") from error
