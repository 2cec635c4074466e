"""The demo models as a worker serves them, and as transformers alone sees them."""

from collections.abc import Sequence
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer
from torch import Tensor

from gpu_worker.importer.launch import ensure_imported
from shared.catalogue import ModelEntry, demo_models, open_catalogue
from shared.config import Config, WorkerConfig
from shared.ids import ModelName
from tests.reference import Reference


class Demo:
    """One demo model: its prompts, and transformers' own view of it."""

    def __init__(self, entry: ModelEntry, dtype: str, texts: Sequence[str]) -> None:
        self.name = ModelName(entry.name)
        tokenizer = Tokenizer.from_file(str(entry.folder / "tokenizer.json"))
        self.prompts = [tokenizer.encode(text).ids for text in texts]
        self.model = transformers.AutoModelForCausalLM.from_pretrained(entry.source, dtype=getattr(torch, dtype)).eval()
        self._reference = Reference(self.model)

    def generate(self, prompt: list[int], num_tokens: int, guess: list[int]) -> list[int]:
        """In float32 much faster where the guess is right."""
        return self._reference.generate(prompt, num_tokens, guess)

    @torch.inference_mode()
    def logits(self, sequences: list[tuple[list[int], list[int]]]) -> list[Tensor]:
        """(prompt, output) of each, as one batch -> [len(output), vocab_size] float32: what the output is chosen by."""
        longest = max(len(prompt) + len(output) for prompt, output in sequences)
        rows = [prompt + output + [0] * (longest - len(prompt) - len(output)) for prompt, output in sequences]
        lengths = torch.tensor([[len(prompt) + len(output)] for prompt, output in sequences])
        mask = (torch.arange(longest)[None] < lengths).long()
        logits = self.model(input_ids=torch.tensor(rows), attention_mask=mask, use_cache=False).logits
        return [
            row[len(prompt) - 1 : len(prompt) + len(output) - 1].float()
            for row, (prompt, output) in zip(logits, sequences, strict=True)
        ]


def demo_config(cache_dir: Path, worker: WorkerConfig) -> Config:
    return Config(models=demo_models(cache_dir), cache_dir=cache_dir, worker=worker)


async def open_demos(config: Config, texts: Sequence[str]) -> list[Demo]:
    """Both demo models, imported for the worker's dtype; `texts` become their prompts."""
    demos = []
    for entry in open_catalogue(config).values():
        await ensure_imported(entry, config.worker.dtype, config.cache_dir)
        demos.append(Demo(entry, config.worker.dtype, texts))
    return demos
