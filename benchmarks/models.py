"""A demo model, or another imported one, on a bare executor, without engine or services."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from gpu_worker.device.base import KvLayout, SequenceSpan
from gpu_worker.device.cpu import CpuDevice
from gpu_worker.execution.executor import Executor
from gpu_worker.execution.module import build_module
from gpu_worker.host_cache.mapping import map_blob
from shared.catalogue import ModelEntry, demo_models, open_catalogue, read_card, read_manifest
from shared.config import Config, load_config
from shared.ids import ModelName

_QUANTUM_BYTES = 4096


@dataclass
class LoadedModel:
    name: ModelName
    executor: Executor
    weights_file: Path
    module: nn.Module
    blob_bytes: int
    max_tokens: int
    block_tokens: int
    blocks: list[list[int]]  # per sequence
    no_counts: Counter[int] = field(default_factory=Counter)

    def span(self, sequence: int, start: int, num_new: int) -> SequenceSpan:
        num_blocks = -(-(start + num_new) // self.block_tokens)
        return SequenceSpan(num_new, start, self.blocks[sequence][:num_blocks])


def load_demo(
    name: str, dtype: str, num_sequences: int, max_tokens: int, device: CpuDevice | None = None
) -> LoadedModel:
    """As `load_imported`. The demo models must be in the cache, imported for this dtype: `make demo`
    and one start of `kottos serve --demo` put them there.
    """
    cache_dir = load_config().cache_dir
    source = next(source for source in demo_models(cache_dir) if source.name == name)
    entry = open_catalogue(Config(models=(source,), cache_dir=cache_dir))[ModelName(name)]
    return load_imported(entry, dtype, num_sequences, max_tokens, device)


def load_imported(
    entry: ModelEntry, dtype: str, num_sequences: int, max_tokens: int, device: CpuDevice | None = None
) -> LoadedModel:
    """Bound to its blob in host memory; with KV for so many sequences of so many tokens."""
    device = device or CpuDevice(unified=True)
    card, manifest = read_card(entry), read_manifest(entry, device.layout, dtype)
    assert card is not None and manifest is not None, f"{entry.name} is not imported for {dtype}"
    torch_dtype = getattr(torch, dtype)
    block_bytes = card.kv.token_bytes(torch_dtype.itemsize) * device.block_tokens
    block_bytes = -(-block_bytes // _QUANTUM_BYTES) * _QUANTUM_BYTES
    layout = KvLayout(card.kv, torch_dtype, device.block_tokens, block_bytes, block_bytes, _QUANTUM_BYTES)
    per_sequence = -(-max_tokens // device.block_tokens)
    region = device.allocate(num_sequences * per_sequence * block_bytes).zero_()
    bound = build_module(entry.folder, manifest)
    executor = Executor(device, bound, region, layout)
    weights_file = entry.weights_folder(device.layout, dtype) / "weights.bin"
    executor.bind(map_blob(weights_file, manifest.blob_bytes))
    # Neighbours in a sequence are not neighbours in memory, as in a pool that has been in use.
    ids = [i * block_bytes // _QUANTUM_BYTES for i in range(num_sequences * per_sequence)]
    blocks = [ids[i::num_sequences] for i in range(num_sequences)]
    return LoadedModel(
        ModelName(entry.name),
        executor,
        weights_file,
        bound.module,
        manifest.blob_bytes,
        max_tokens,
        device.block_tokens,
        blocks,
    )
