"""The KV shape is what a forward pass leaves in the cache, and all layers must agree."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gpu_worker.importer.texts import observe_kv_shape
from shared.catalogue import KvShape
from shared.errors import ModelError


def _model(*layers: tuple[tuple[int, ...], tuple[int, ...]] | None) -> Any:
    """A model whose cache holds keys and values of these shapes; None: a layer that keeps neither."""
    kept = [
        SimpleNamespace(keys=torch.zeros(shapes[0]), values=torch.zeros(shapes[1])) if shapes else SimpleNamespace()
        for shapes in layers
    ]
    return lambda **_: SimpleNamespace(past_key_values=SimpleNamespace(layers=kept))


_PLAIN = ((1, 2, 1, 16), (1, 2, 1, 16))


def test_equal_layers() -> None:
    assert observe_kv_shape(_model(_PLAIN, _PLAIN, _PLAIN)) == KvShape(num_layers=3, num_kv_heads=2, head_dim=16)


@pytest.mark.parametrize(
    "layers",
    [
        (_PLAIN, ((1, 4, 1, 16), (1, 4, 1, 16))),  # other numbers of heads
        (((1, 2, 1, 16), (1, 2, 1, 8)),),  # K and V of different widths
        (_PLAIN, None),  # a layer without K and V
        (((1, 16), (1, 16)),),  # a state, not K and V
        (),
    ],
)
def test_other_layers_are_refused(layers: tuple[Any, ...]) -> None:
    with pytest.raises(ModelError, match="one shape"):
        observe_kv_shape(_model(*layers))


def test_a_model_without_cache_is_refused() -> None:
    with pytest.raises(ModelError):
        observe_kv_shape(lambda **_: SimpleNamespace(past_key_values=None))  # type: ignore[arg-type]
