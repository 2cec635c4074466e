"""Writes a model's tensors as one blob in execution order, and its manifest."""

import hashlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Final

import msgspec
import torch
from torch import Tensor, nn

from gpu_worker.importer.progress import Report
from shared.catalogue import PLAIN_LAYOUT, Manifest, TensorEntry
from shared.importing import Progress

ALIGNMENT: Final = 64  # bytes: a cache line, and what vector loads want
_CHUNK_BYTES: Final = 16 << 20


def write_blob(model: nn.Module, dtype: str, folder: Path, report: Report) -> Manifest:
    """Streams weights.bin, then manifest.json; the tensors are never all copied."""
    placed = list(_place(model))
    last = placed[-1][0]
    total_bytes = _align(last.offset + placed[-1][1].nbytes)
    digest = hashlib.sha256()
    written = 0
    with (folder / "weights.bin").open("wb") as blob:
        for entry, tensor in placed:
            for piece in chain([bytes(entry.offset - written)], _pieces(tensor)):
                blob.write(piece)
                digest.update(piece)
                written += len(piece)
                report(Progress("write", written, total_bytes))
        padding = bytes(total_bytes - written)
        blob.write(padding)
        digest.update(padding)
    report(Progress("write", total_bytes, total_bytes))
    manifest = Manifest(PLAIN_LAYOUT, dtype, total_bytes, digest.hexdigest(), tuple(entry for entry, _ in placed))
    (folder / "manifest.json").write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    return manifest


def blob_bytes(model: nn.Module) -> int:
    return sum(_align(tensor.nbytes) for _, tensor in _distinct(model))


def _place(model: nn.Module) -> Iterator[tuple[TensorEntry, Tensor]]:
    offset = 0
    for names, tensor in _distinct(model):
        dtype = str(tensor.dtype).removeprefix("torch.")
        yield TensorEntry(tuple(names), offset, tuple(tensor.shape), dtype), tensor
        offset = _align(offset + tensor.nbytes)


def _distinct(model: nn.Module) -> list[tuple[list[str], Tensor]]:
    """Each tensor once, with all its names: buffers, which the first layer needs, then parameters in module order."""
    found: dict[int, tuple[list[str], Tensor]] = {}
    for name, tensor in (
        *model.named_buffers(remove_duplicate=False),
        *model.named_parameters(remove_duplicate=False),
    ):
        found.setdefault(id(tensor), ([], tensor))[0].append(name)
    return list(found.values())


def _pieces(tensor: Tensor) -> Iterator[bytes | memoryview]:
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)  # [nbytes]
    for start in range(0, flat.numel(), _CHUNK_BYTES):
        yield flat[start : start + _CHUNK_BYTES].numpy().data


def _align(num_bytes: int) -> int:
    return -(-num_bytes // ALIGNMENT) * ALIGNMENT
