"""A model as transformers runs it, alone: what every schedule of ours has to repeat in float32."""

from collections.abc import Sequence
from typing import Any

import torch
import transformers
from torch import Tensor


class Reference:
    """Generates greedily, past end tokens, and remembers what it said."""

    def __init__(self, model: transformers.PreTrainedModel) -> None:
        self._model: Any = model.eval()
        self._model.generation_config.eos_token_id = None
        self._said: dict[tuple[int, ...], list[int]] = {}  # the longest output after each prompt

    def generate(self, prompt: Sequence[int], num_tokens: int, guess: Sequence[int] = ()) -> list[int]:
        """Its own output, whatever the guess. A right one is proved by a single forward pass over all its tokens, as
        each of them ranks highest after those before it; where it goes wrong, transformers' generation goes on.
        """
        said = self._said.get(tuple(prompt), [])
        if len(said) < num_tokens:
            said = max(said, self._right_part(prompt, guess[:num_tokens]), key=len)
            said = self._said[tuple(prompt)] = said + self._continue([*prompt, *said], num_tokens - len(said))
        return said[:num_tokens]

    @torch.inference_mode()
    def logits(self, token_ids: Sequence[int], first: int = 0) -> Tensor:
        """[len(token_ids) - first, vocab_size]: by which the token after each is chosen, from that at `first` on."""
        kept = torch.arange(first, len(token_ids))
        inputs = torch.tensor([list(token_ids)])
        logits: Tensor = self._model(input_ids=inputs, use_cache=False, logits_to_keep=kept).logits[0]
        return logits

    def _right_part(self, prompt: Sequence[int], guess: Sequence[int]) -> list[int]:
        """Up to the first token that does not rank highest."""
        if not guess:
            return []
        best = self.logits([*prompt, *guess[:-1]], first=len(prompt) - 1).argmax(-1).tolist()
        num_right = next((i for i, (ours, its) in enumerate(zip(guess, best, strict=True)) if ours != its), len(guess))
        return list(guess[:num_right])

    def _continue(self, token_ids: list[int], num_tokens: int) -> list[int]:
        if num_tokens <= 0:
            return []
        output = self._model.generate(
            torch.tensor([token_ids]), max_new_tokens=num_tokens, do_sample=False, pad_token_id=0
        )
        said: list[int] = output[0, len(token_ids) :].tolist()
        return said
