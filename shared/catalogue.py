"""The model catalogue: where an imported model lies in the cache folder, and its card.

    <cache>/models/<fingerprint>/                    config.json, tokenizer.json, chat_template.jinja, card.json
    <cache>/models/<fingerprint>/<layout>-<dtype>/   weights.bin, manifest.json: as a device back end wants them

An importer writes into a temporary folder beside it and renames it, so a folder that exists is complete.
The gateway reads the card and the text assets only; workers read both.
"""

from pathlib import Path

import msgspec

LAYOUT_VERSION = 1


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

    def weights_folder(self, layout: str, dtype: str) -> Path:
        return self.folder / f"{layout}-{dtype}"
