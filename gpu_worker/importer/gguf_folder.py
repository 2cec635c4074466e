"""Converts a GGUF file into a bf16 Hugging Face folder: dense safetensors, tokenizer, chat template if it has one."""

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import pre_tokenizers
from torch import nn

from gpu_worker.importer.demo_sources import Demo
from gpu_worker.importer.progress import Report
from gpu_worker.importer.source import Source, load_model, load_tokenizer
from shared.importing import Progress


def convert_gguf(demo: Demo, gguf_file: Path, folder: Path, report: Report) -> None:
    """Raises ModelError when transformers can't read the file."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    source = Source(gguf_file.parent, gguf_file.name)

    report(Progress("tokenizer", 0, 1, demo.name))
    tokenizer = load_tokenizer(source)
    if demo.splits_digits:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    tokenizer.save_pretrained(folder)
    report(Progress("tokenizer", 1, 1, demo.name))

    report(Progress("load", 0, 1, demo.name))
    model = load_model(source, torch.float32)
    _forget_quantization(model)
    nn.Module.to(model, torch.bfloat16)
    model.config.dtype = torch.bfloat16
    report(Progress("load", 1, 1, demo.name))

    report(Progress("write", 0, 1, demo.name))
    model.save_pretrained(folder)
    report(Progress("write", 1, 1, demo.name))


def _forget_quantization(model: Any) -> None:
    """Its weights are dense by now, yet transformers would refuse to save what came from a GGUF file."""
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
