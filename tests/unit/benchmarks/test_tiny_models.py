"""The tiny models are worth testing with: small, varied in their output, the same for the same seed."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from benchmarks.tiny_models import BOS_ID, FAMILIES, VOCAB_SIZE, make_tiny_model, make_tiny_tokenizer


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_output_is_varied(family: str, tmp_path: Path) -> None:
    folder = make_tiny_model(family, tmp_path / family)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder)
    prompts = torch.randint(0, VOCAB_SIZE, (4, 20), generator=torch.Generator().manual_seed(7))
    output = model.generate(prompts, max_new_tokens=48, do_sample=False, eos_token_id=None, pad_token_id=0)
    late = output[:, -24:]  # a stuck sequence would hide wrong positions and wrong KV
    assert min(len(set(row.tolist())) for row in late) >= 6


def test_same_seed_same_weights(tmp_path: Path) -> None:
    files = [
        make_tiny_model("llama", tmp_path / str(i), seed) / "model.safetensors" for i, seed in enumerate((1, 1, 2))
    ]
    first, again, other = (file.read_bytes() for file in files)
    assert first == again
    assert first != other


def test_tokenizer_reads_any_text_and_every_id() -> None:
    tokenizer = make_tiny_tokenizer()
    text = "Grüße, 世界 🙂\n\tdef f(x): return x"
    ids = tokenizer(text).input_ids
    assert ids[0] == BOS_ID
    assert tokenizer.decode(ids[1:]) == text
    assert all(isinstance(tokenizer.decode([i]), str) for i in range(VOCAB_SIZE))


def test_base_model_has_no_chat_template(tmp_path: Path) -> None:
    folder = make_tiny_model("llama", tmp_path / "base", chat_template=False)
    assert not (folder / "chat_template.jinja").exists()
    assert (make_tiny_model("llama", tmp_path / "chat") / "chat_template.jinja").exists()
