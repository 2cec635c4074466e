"""The last step of an import: our packed, chunked, paged execution against the model's own, on two short sequences."""

from collections import Counter
from pathlib import Path
from typing import Final

import msgspec
import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from gpu_worker.device.base import Device, KvLayout, SequenceSpan
from gpu_worker.device.cpu import CpuDevice
from gpu_worker.execution.executor import Executor, StepPart
from gpu_worker.execution.module import build_module
from gpu_worker.execution.sampling import SamplingRow
from gpu_worker.host_cache.mapping import map_blob
from shared.catalogue import KvShape, Manifest, ModelCard
from shared.errors import ModelError
from shared.messages import Sampling

# Relative L2 distance of logits. A missed window, mask or position gives several tenths; rounding stays far below.
_TOLERANCE: Final = {"float32": 1e-3, "bfloat16": 0.1}
_MAX_TOKENS: Final = 1100  # longer windows are probed without being left
_QUANTUM_BYTES: Final = 4096
_ROW: Final = SamplingRow(Sampling(max_tokens=1, seed=0), 0, frozenset(), Counter())


def probe(model: PreTrainedModel, folder: Path, weights_folder: Path, manifest: Manifest) -> None:
    """model: as transformers loaded it; folder: config.json, card.json; weights_folder: weights.bin.

    Raises ModelError when ours and its own logits differ.
    """
    kv = msgspec.json.decode((folder / "card.json").read_bytes(), type=ModelCard).kv
    device = CpuDevice(unified=True)
    lengths = _lengths(model.config)
    executor = _executor(device, folder, weights_folder, manifest, kv, lengths)
    generator = torch.Generator().manual_seed(0)
    sequences = [torch.randint(model.config.vocab_size, (n,), generator=generator).tolist() for n in lengths]
    expected = torch.stack([_reference(model, sequence) for sequence in sequences])  # [2, vocab_size]
    actual = _packed(executor, _spans(device, manifest, kv, lengths), sequences)
    distances = (actual - expected).norm(dim=-1) / expected.norm(dim=-1)
    worst = float(distances.nan_to_num(torch.inf).max())
    if worst > _TOLERANCE[manifest.dtype]:
        raise ModelError(
            f"{type(model).__name__} computes something else when packed: logits differ by {worst:.2%} "
            f"(allowed {_TOLERANCE[manifest.dtype]:.2%}), so its attention or positions are not supported"
        )


def _lengths(config: PreTrainedConfig) -> tuple[int, int]:
    """One past the window if there is one, one short."""
    window = getattr(config, "sliding_window", None) or 0
    limit = min(_MAX_TOKENS, config.max_position_embeddings)
    return min(max(40, window + 24), limit), min(21, limit)


def _reference(model: PreTrainedModel, token_ids: list[int]) -> Tensor:  # [vocab_size] float32
    with torch.inference_mode():
        return model(input_ids=torch.tensor([token_ids]), use_cache=False).logits[0, -1].float()


def _layout(device: Device, manifest: Manifest, kv: KvShape) -> KvLayout:
    dtype = getattr(torch, manifest.dtype)
    block_bytes = -(-kv.token_bytes(dtype.itemsize) * device.block_tokens // _QUANTUM_BYTES) * _QUANTUM_BYTES
    return KvLayout(kv, dtype, device.block_tokens, block_bytes, block_bytes, _QUANTUM_BYTES)


def _spans(device: Device, manifest: Manifest, kv: KvShape, lengths: tuple[int, int]) -> list[list[int]]:
    """Block ids of each sequence: every other block, so that neighbours in a sequence aren't in memory."""
    stride = _layout(device, manifest, kv).block_bytes // _QUANTUM_BYTES
    counts = [-(-n // device.block_tokens) for n in lengths]
    first = [2 * i * stride for i in range(counts[0])]
    second = [(2 * i + 1) * stride for i in range(counts[1])]
    return [first, second]


def _executor(
    device: Device, folder: Path, weights_folder: Path, manifest: Manifest, kv: KvShape, lengths: tuple[int, int]
) -> Executor:
    layout = _layout(device, manifest, kv)
    region = device.allocate(2 * -(-lengths[0] // device.block_tokens) * layout.block_bytes)
    executor = Executor(device, build_module(folder, manifest), region, layout)
    executor.bind(map_blob(weights_folder / "weights.bin", manifest.blob_bytes))
    return executor


def _packed(executor: Executor, blocks: list[list[int]], sequences: list[list[int]]) -> Tensor:  # [2, vocab_size]
    """All but the last tokens in two chunks side by side, then one token of each."""
    for start, end in ((0.0, 0.6), (0.6, 1.0)):
        parts = []
        for block_ids, tokens in zip(blocks, sequences, strict=True):
            lo, hi = int(start * (len(tokens) - 1)), int(end * (len(tokens) - 1))
            parts.append(StepPart(SequenceSpan(hi - lo, lo, block_ids), tokens[lo:hi], None))
        executor.logits(parts)
    last = [
        StepPart(SequenceSpan(1, len(tokens) - 1, block_ids), tokens[-1:], _ROW)
        for block_ids, tokens in zip(blocks, sequences, strict=True)
    ]
    return executor.logits(last).float()
