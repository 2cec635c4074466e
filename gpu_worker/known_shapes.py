"""The KV shapes of models before they are loaded: what their cards say or, until they are imported, their config.json.

A configuration may promise another shape than a forward pass leaves: good enough to choose sizes by, no more.
"""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from shared.catalogue import KvShape, ModelEntry, read_card
from shared.errors import ModelError


class _ModelConfig(msgspec.Struct, frozen=True):
    """transformers' names, as most families have them."""

    num_hidden_layers: int | None = None
    num_attention_heads: int | None = None
    num_key_value_heads: int | None = None  # None: as many as there are heads
    hidden_size: int | None = None
    head_dim: int | None = None
    text_config: "_ModelConfig | None" = None


def known_shapes(models: Iterable[ModelEntry]) -> set[KvShape]:
    """Of those that can be told."""
    return {shape for model in models if (shape := _shape(model)) is not None}


def _shape(model: ModelEntry) -> KvShape | None:
    try:
        card = read_card(model)
        return promised_shape(Path(model.source).expanduser()) if card is None else card.kv
    except ModelError:  # the import mends it
        return None


def promised_shape(folder: Path) -> KvShape | None:
    """None where `folder` is none, or its config.json does not say it."""
    try:
        config = msgspec.json.decode((folder / "config.json").read_bytes(), type=_ModelConfig)
    except (OSError, msgspec.DecodeError):
        return None
    config = config.text_config or config
    num_heads = config.num_attention_heads
    head_dim = config.head_dim or (config.hidden_size // num_heads if config.hidden_size and num_heads else None)
    num_kv_heads = config.num_key_value_heads or num_heads
    if not (config.num_hidden_layers and num_kv_heads and head_dim):
        return None
    return KvShape(config.num_hidden_layers, num_kv_heads, head_dim)
