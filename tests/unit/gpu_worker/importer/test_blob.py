"""The blob holds every tensor once, aligned, in execution order, byte for byte."""

import hashlib
from pathlib import Path

import torch
from torch import nn

from gpu_worker.importer.blob import ALIGNMENT, blob_bytes, write_blob
from shared.catalogue import PLAIN_LAYOUT, Manifest, ModelEntry, read_manifest
from shared.importing import Progress


class _Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 3, dtype=torch.bfloat16)
        self.norm = nn.LayerNorm(7)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight
        self.turned = nn.Parameter(torch.arange(6.0).reshape(2, 3).T)  # not contiguous
        self.register_buffer("kept", torch.tensor(3.5))
        self.register_buffer("scratch", torch.arange(3, dtype=torch.int64), persistent=False)


def _write(tmp_path: Path) -> tuple[_Model, Manifest, bytes, list[Progress]]:
    torch.manual_seed(0)
    model = _Model()
    heard: list[Progress] = []
    folder = tmp_path / f"{PLAIN_LAYOUT}-bfloat16"
    folder.mkdir()
    manifest = write_blob(model, "bfloat16", folder, heard.append)
    return model, manifest, (folder / "weights.bin").read_bytes(), heard


def test_every_tensor_comes_back_under_all_its_names(tmp_path: Path) -> None:
    model, manifest, blob, _ = _write(tmp_path)
    names = {name for entry in manifest.tensors for name in entry.names}
    assert names == {*model.state_dict(), "scratch"}
    tied = next(entry for entry in manifest.tensors if "embed.weight" in entry.names)
    assert tied.names == ("embed.weight", "head.weight")
    for entry in manifest.tensors:
        expected = model.get_parameter(entry.names[0]) if entry.names[0] in dict(model.named_parameters()) else None
        tensor = expected if expected is not None else model.get_buffer(entry.names[0])
        dtype = getattr(torch, entry.dtype)
        found = torch.frombuffer(bytearray(blob), dtype=dtype, count=tensor.numel(), offset=entry.offset)
        assert dtype == tensor.dtype
        assert torch.equal(found.reshape(entry.shape), tensor)


def test_places_are_aligned_disjoint_and_ordered(tmp_path: Path) -> None:
    _, manifest, blob, _ = _write(tmp_path)
    order = [entry.names[0] for entry in manifest.tensors]
    assert order == ["kept", "scratch", "turned", "embed.weight", "norm.weight", "norm.bias"]
    assert all(entry.offset == 64 * i for i, entry in enumerate(manifest.tensors))  # each is smaller than a line
    assert len(blob) == manifest.blob_bytes == 64 * len(order)
    assert manifest.blob_bytes % ALIGNMENT == 0


def test_manifest_file_checksum_and_size_agree(tmp_path: Path) -> None:
    model, manifest, blob, heard = _write(tmp_path)
    assert read_manifest(ModelEntry("m", "", tmp_path), PLAIN_LAYOUT, "bfloat16") == manifest
    assert hashlib.sha256(blob).hexdigest() == manifest.sha256
    assert blob_bytes(model) == manifest.blob_bytes
    assert heard[-1] == Progress("write", len(blob), len(blob))
