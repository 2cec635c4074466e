"""The files of a model that are no weights: configuration, tokenizer, chat template, card."""

import shutil
from pathlib import Path
from typing import Final

import torch
import transformers
from tokenizers import Tokenizer
from transformers import PreTrainedConfig, PreTrainedModel

from gpu_worker.importer.eligibility import context_length, token_ids
from gpu_worker.importer.source import Source, read_json
from shared.catalogue import KvShape, ModelCard
from shared.errors import ModelError

_SAMPLES: Final = ("Hello, world! 12345", " two  spaces\n\ttab and\r\nlines", "Grüße, 世界 🙂", "it's <|odd|> <s>")


def write_texts(
    source: Source, config: PreTrainedConfig, tokenizer: transformers.PreTrainedTokenizerFast, folder: Path
) -> None:
    """Raises ModelError if the written tokenizer.json does not encode as the source's tokenizer does."""
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    generation = source.folder / "generation_config.json"
    if source.gguf_file is None and generation.exists():
        shutil.copyfile(generation, folder / generation.name)
    written = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for sample in _SAMPLES:
        if written.encode(sample).ids != tokenizer(sample)["input_ids"]:
            raise ModelError("its tokenizer.json alone does not encode text as transformers does")


def make_card(model: PreTrainedModel, folder: Path) -> ModelCard:
    """folder: with the text files."""
    config = model.config
    generation = read_json(folder / "generation_config.json")
    return ModelCard(
        architecture=type(model).__name__,
        context_length=context_length(config),
        vocab_size=config.vocab_size,
        eos_token_ids=token_ids(config.eos_token_id, generation.get("eos_token_id")),
        bos_token_id=config.bos_token_id,
        kv=observe_kv_shape(model),
        has_chat_template=(folder / "chat_template.jinja").exists(),
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
    )


@torch.inference_mode()
def observe_kv_shape(model: PreTrainedModel) -> KvShape:
    """What one forward pass leaves in the cache. Raises ModelError unless all layers keep K and V of one shape."""
    output = model(input_ids=torch.zeros(1, 1, dtype=torch.int64), use_cache=True)
    shapes = set()
    layers = getattr(output.past_key_values, "layers", [])
    for layer in layers:
        for tensor in (getattr(layer, "keys", None), getattr(layer, "values", None)):
            shapes.add(tuple(tensor.shape) if tensor is not None else None)  # (1, num_kv_heads, 1, head_dim)
    shape = shapes.pop() if len(shapes) == 1 else None
    if shape is None or len(shape) != 4:
        raise ModelError("can't be served yet: its layers don't all keep K and V of one shape")
    return KvShape(num_layers=len(layers), num_kv_heads=shape[1], head_dim=shape[3])
