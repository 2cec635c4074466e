"""Copies of a small random decoder, each with weights of its own."""

from pathlib import Path
from typing import Any, Final

import torch
import transformers

from benchmarks.tiny_models import BOS_ID, EOS_ID, VOCAB_SIZE, make_tiny_tokenizer
from shared.config import ModelSource
from simulator.workload import zipf_shares

DTYPE: Final = "float32"
NUM_LAYERS: Final = 3
KV_TOKEN_BYTES: Final = NUM_LAYERS * 2 * 2 * 64 * 4  # K and V of 2 heads
_CONFIG: Final[dict[str, Any]] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 256,
    "intermediate_size": 1536,
    "num_hidden_layers": NUM_LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "bos_token_id": BOS_ID,
    "eos_token_id": EOS_ID,
    "pad_token_id": None,
    "tie_word_embeddings": False,
}


def make_copies(folder: Path, num: int) -> list[ModelSource]:
    """As Hugging Face folders; those that are there stay as they are."""
    return [
        ModelSource(str(name), str(_make_copy(folder / name, i))) for i, (name, _) in enumerate(zipf_shares(num, 0))
    ]


def _make_copy(folder: Path, seed: int) -> Path:
    if not (folder / "tokenizer.json").exists():  # written last
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            config = transformers.LlamaConfig(**_CONFIG)
            model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        folder.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(folder)
        make_tiny_tokenizer().save_pretrained(folder)
    return folder
