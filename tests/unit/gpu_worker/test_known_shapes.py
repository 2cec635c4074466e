from pathlib import Path

import pytest

from gpu_worker.known_shapes import known_shapes, promised_shape
from shared.catalogue import KvShape, ModelEntry

CARD = (
    b'{"architecture": "A", "context_length": 512, "vocab_size": 384, "eos_token_ids": [1], "bos_token_id": 0, "kv": '
    b'{"num_layers": 2, "num_kv_heads": 1, "head_dim": 8}, "has_chat_template": false, "num_parameters": 1}'
)
CONFIG = b'{"num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "hidden_size": 576}'
PROMISED = KvShape(30, 3, 64)


def entry(folder: Path, *, card: bytes = b"", config: bytes = b"") -> ModelEntry:
    source = folder / "source"
    source.mkdir(parents=True)
    (source / "config.json").write_bytes(config)
    if card:
        (folder / "card.json").write_bytes(card)
    return ModelEntry("model", str(source), folder)


def test_the_card_of_an_imported_model_is_believed(tmp_path: Path) -> None:
    assert known_shapes([entry(tmp_path / "a", card=CARD, config=CONFIG)]) == {KvShape(2, 1, 8)}


def test_before_its_import_a_model_has_the_shape_that_its_configuration_promises(tmp_path: Path) -> None:
    assert known_shapes([entry(tmp_path / "a", config=CONFIG)]) == {PROMISED}


def test_models_whose_shape_nobody_can_tell_are_left_out(tmp_path: Path) -> None:
    models = [
        entry(tmp_path / "a", card=b"{", config=CONFIG),
        entry(tmp_path / "b", config=b"{}"),
        ModelEntry("hub", "owner/name", tmp_path / "c"),
        entry(tmp_path / "d", config=CONFIG),
    ]
    assert known_shapes(models) == {PROMISED}


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (b'{"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64}', KvShape(2, 4, 16)),
        (b'{"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64, "head_dim": 24}', KvShape(2, 4, 24)),
        (b'{"text_config": ' + CONFIG + b', "num_hidden_layers": 1}', PROMISED),
        (b'{"num_hidden_layers": [2]}', None),
        (b"[]", None),
        (b"\xff", None),
        (b'{"num_hidden_layers": 2, "num_attention_heads": 0, "hidden_size": 64}', None),
    ],
)
def test_what_configurations_promise(tmp_path: Path, config: bytes, shape: KvShape | None) -> None:
    (tmp_path / "config.json").write_bytes(config)
    assert promised_shape(tmp_path) == shape
