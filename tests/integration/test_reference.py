"""The reference of all exactness tests: a guess makes it faster, and never says what comes out."""

from typing import Any

import pytest
import torch
import transformers

from benchmarks.tiny_models import FAMILIES
from tests.integration.tiny_models import TinyModels
from tests.reference import Reference

PROMPT = list(range(2, 30))  # past the tiny models' windows
NUM_TOKENS = 24


def open_reference(tiny_models: TinyModels, family: str) -> tuple[Any, Reference]:
    path = tiny_models.source(family).path
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    return model, Reference(model)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_right_guess_is_proved_without_generating(
    tiny_models: TinyModels, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, reference = open_reference(tiny_models, family)
    prompt = torch.tensor([PROMPT])
    model.generation_config.eos_token_id = None
    output = model.generate(prompt, max_new_tokens=NUM_TOKENS, do_sample=False, pad_token_id=0)
    expected = output[0, len(PROMPT) :].tolist()
    monkeypatch.setattr(model, "generate", None)
    assert reference.generate(PROMPT, NUM_TOKENS, guess=expected) == expected
    assert reference.generate(PROMPT, NUM_TOKENS - 1, guess=[7]) == expected[:-1]  # it is known


@pytest.mark.parametrize("num_right", [0, 1, 9, NUM_TOKENS])
def test_a_wrong_guess_changes_nothing(tiny_models: TinyModels, num_right: int) -> None:
    expected = open_reference(tiny_models, "llama")[1].generate(PROMPT, NUM_TOKENS)
    wrong = [token_id + (i >= num_right) for i, token_id in enumerate(expected)]
    for guess in (wrong, wrong[: num_right + 1], [*expected[:num_right], *wrong]):
        _, reference = open_reference(tiny_models, "llama")
        assert reference.generate(PROMPT, NUM_TOKENS, guess) == expected
