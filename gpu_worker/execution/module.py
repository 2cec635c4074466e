"""A transformers model, unmodified, whose parameters are views into one byte buffer.

The module is built once on the meta device; `bind` points its tensors at a blob's place in memory, so a switch of
models moves pointers and never allocates. Buffers (rotary frequencies, embedding scales) lie in the blob as well.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, AutoConfig, AutoModelForCausalLM

from gpu_worker.device.base import StepAttention
from shared.catalogue import Manifest, TensorEntry
from shared.errors import ModelError

ATTENTION_NAME = "kottos"
_MAX_ADDRESSES = 4  # remembered sets of views per model


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    *,
    kottos_step: StepAttention,
    s_aux: Tensor | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Called by every attention layer of a bound module; shapes as in device/base.py."""
    if s_aux is not None:
        raise ModelError("attention sinks are not supported")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return kottos_step.attend(module.layer_idx, query, key, value, scale, sliding_window, softcap), None  # type: ignore[arg-type]


def _no_mask(*_: object, **__: object) -> None:
    return None


AttentionInterface.register(ATTENTION_NAME, _attention)
AttentionMaskInterface.register(ATTENTION_NAME, _no_mask)


def tensor_view(base: Tensor, entry: TensorEntry) -> Tensor:
    """base: [blob_bytes] uint8 -> the entry's tensor, sharing memory."""
    dtype = getattr(torch, entry.dtype)
    num_bytes = dtype.itemsize
    for size in entry.shape:
        num_bytes *= size
    return base[entry.offset : entry.offset + num_bytes].view(dtype).view(entry.shape)


class BoundModule:
    """One model on one device, as long as it is served; where its weights lie changes."""

    def __init__(self, module: nn.Module, manifest: Manifest) -> None:
        self.module = module
        self.manifest = manifest
        self._slots: list[Tensor] = []  # one per manifest entry: the tensor that all its names share
        self._views: dict[int, list[Tensor]] = {}  # address -> views, newest last
        self._address: int | None = None
        for entry in manifest.tensors:
            self._slots.append(self._install(entry))
        if missing := [name for name, tensor in _all_tensors(module) if tensor.is_meta]:
            raise ModelError(f"the blob lacks {len(missing)} tensors of the model, e.g. {missing[0]}")

    def _install(self, entry: TensorEntry) -> Tensor:
        shared: Tensor | None = None
        for name in entry.names:
            tensors, leaf = self._place(name)
            expected = tensors[leaf]
            if expected is None or tuple(expected.shape) != entry.shape:
                shape = None if expected is None else list(expected.shape)
                raise ModelError(f"tensor {name} has shape {list(entry.shape)} in the blob, {shape} in the model")
            if shared is None:
                shared = torch.empty(0, dtype=getattr(torch, entry.dtype))
                if isinstance(expected, nn.Parameter):
                    shared = nn.Parameter(shared, requires_grad=False)
            tensors[leaf] = shared
        assert shared is not None, "an entry has a name"
        return shared

    def _place(self, name: str) -> tuple[dict[str, Any], str]:
        """The module's table that holds the tensor, and its key there."""
        owner_name, _, leaf = name.rpartition(".")
        with contextlib.suppress(AttributeError):  # no such submodule
            owner = self.module.get_submodule(owner_name)
            for tensors in (owner._parameters, owner._buffers):
                if leaf in tensors:
                    return tensors, leaf
        raise ModelError(f"the model has no tensor {name}")

    def entries(self) -> Iterator[tuple[TensorEntry, Tensor]]:
        """The blob's tensors, each with the one that the module uses for it."""
        return zip(self.manifest.tensors, self._slots, strict=True)

    def view_of(self, tensor: Tensor, base: Tensor) -> Tensor:
        """Where `tensor`, one of the module's, lies in another copy of the blob. base: [blob_bytes] uint8."""
        return next(tensor_view(base, entry) for entry, slot in self.entries() if slot is tensor)

    def bind(self, base: Tensor) -> None:
        """base: [blob_bytes] uint8 on the device. Does nothing when the model already lies there."""
        address = base.data_ptr()
        if address == self._address:
            return
        views = self._views.pop(address, None) or [tensor_view(base, entry) for entry in self.manifest.tensors]
        self._views[address] = views
        while len(self._views) > _MAX_ADDRESSES:
            self._views.pop(next(iter(self._views)))
        for slot, view in zip(self._slots, views, strict=True):
            slot.data = view
        self._address = address

    def release(self) -> None:
        """Lets go of the memory that it was bound to."""
        for slot in self._slots:
            slot.data = slot.new_empty(0)
        self._views.clear()
        self._address = None


def _all_tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]


def build_module(folder: Path, manifest: Manifest) -> BoundModule:
    """folder: the model's text assets (config.json). Allocates no weights.

    Raises ModelError when transformers' model and the manifest don't agree.
    """
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with torch.device("meta"):
        module = AutoModelForCausalLM.from_config(
            config, dtype=getattr(torch, manifest.dtype), attn_implementation=ATTENTION_NAME, trust_remote_code=False
        )
    return BoundModule(module.eval(), manifest)
