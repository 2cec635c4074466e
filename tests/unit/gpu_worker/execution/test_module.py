"""A tiny tied Llama whose weights lie in a byte buffer. Its manifest and blob are made from the model itself."""

import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn

from benchmarks.tiny_models import make_tiny_model
from gpu_worker.device.base import KvLayout, SequenceSpan
from gpu_worker.device.cpu import CpuDevice
from gpu_worker.execution.module import BoundModule, build_module, tensor_view
from gpu_worker.importer.blob import write_blob
from shared.catalogue import KvShape, Manifest, TensorEntry
from shared.errors import ModelError

Change = Callable[[TensorEntry], TensorEntry | None]
PROMPT = [5, 6, 7, 8]
SHAPE = KvShape(num_layers=3, num_kv_heads=2, head_dim=16)
BLOCK_BYTES = SHAPE.token_bytes(4) * 16


class Written:
    """A folder with config.json, the blob and its manifest, and the model itself."""

    def __init__(self, folder: Path) -> None:
        make_tiny_model("llama_tied", folder)
        self.folder = folder
        self.model: nn.Module = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.manifest = write_blob(self.model, "float32", folder, lambda progress: None)

    def blob(self) -> Tensor:
        """[blob_bytes] uint8, a new copy."""
        return torch.frombuffer(bytearray((self.folder / "weights.bin").read_bytes()), dtype=torch.uint8)

    def changed(self, change: Change) -> Manifest:
        entries = tuple(entry for old in self.manifest.tensors if (entry := change(old)) is not None)
        return msgspec.structs.replace(self.manifest, tensors=entries)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    yield Written(tmp_path_factory.mktemp("model"))


def logits(bound: BoundModule) -> Tensor:  # [vocab_size]
    device = CpuDevice(unified=True)
    layout = KvLayout(SHAPE, torch.float32, 16, BLOCK_BYTES, BLOCK_BYTES, BLOCK_BYTES)
    kv = device.open_kv(device.allocate(BLOCK_BYTES), layout)
    with torch.inference_mode():
        output = bound.module(
            input_ids=torch.tensor([PROMPT]),
            position_ids=torch.arange(len(PROMPT))[None],
            use_cache=False,
            kottos_step=kv.prepare([span()]),
        )
    return output.logits[0, -1]


def span() -> SequenceSpan:
    return SequenceSpan(len(PROMPT), 0, [0])


def expected(written: Written) -> Tensor:
    with torch.inference_mode():
        return written.model(input_ids=torch.tensor([PROMPT])).logits[0, -1]


def test_no_weights_are_allocated_before_they_are_bound(written: Written) -> None:
    bound = build_module(written.folder, written.manifest)
    tensors = [*bound.module.parameters(), *bound.module.buffers()]
    assert sum(tensor.numel() for tensor in tensors) == 0
    assert not any(tensor.is_meta for tensor in tensors)


def test_a_bound_model_computes_what_the_model_does_without_copying(written: Written) -> None:
    bound, base = build_module(written.folder, written.manifest), written.blob()
    bound.bind(base)
    torch.testing.assert_close(logits(bound), expected(written))
    start, end = base.data_ptr(), base.data_ptr() + base.numel()
    for name, tensor in bound.module.named_parameters():
        assert start <= tensor.data_ptr() < end, name
        assert not tensor.requires_grad
    tied = [bound.module.get_parameter(name) for name in ("model.embed_tokens.weight", "lm_head.weight")]
    assert tied[0] is tied[1]


def test_rebinding_follows_the_weights(written: Written) -> None:
    bound, first, second = build_module(written.folder, written.manifest), written.blob(), written.blob()
    bound.bind(first)
    bound.bind(second)
    first.zero_()
    torch.testing.assert_close(logits(bound), expected(written))
    bound.bind(first)  # remembered views see today's bytes
    assert logits(bound).count_nonzero() == 0
    bound.bind(second)
    torch.testing.assert_close(logits(bound), expected(written))


def test_only_a_few_addresses_are_remembered(written: Written) -> None:
    bound, places = build_module(written.folder, written.manifest), [written.blob() for _ in range(8)]
    for place in places:
        bound.bind(place)
    views = [sum(tensor_uses(place, bound)) for place in places]
    assert views[-1] > 0
    assert sum(count > 0 for count in views) <= 4


def tensor_uses(place: Tensor, bound: BoundModule) -> Iterator[int]:
    for views in bound._views.values():
        yield sum(view.data_ptr() - place.data_ptr() in range(place.numel()) for view in views)


def test_a_released_model_holds_no_memory_and_can_be_bound_again(written: Written) -> None:
    bound = build_module(written.folder, written.manifest)
    memory = np.fromfile(written.folder / "weights.bin", dtype=np.uint8)
    alive = weakref.ref(memory)
    bound.bind(torch.from_numpy(memory))
    del memory
    assert alive() is not None
    bound.release()
    assert alive() is None
    assert sum(tensor.numel() for tensor in bound.module.parameters()) == 0
    bound.bind(written.blob())
    torch.testing.assert_close(logits(bound), expected(written))


def test_after_a_release_the_same_address_is_bound_anew(written: Written) -> None:
    bound, base = build_module(written.folder, written.manifest), written.blob()
    for _ in range(2):
        bound.bind(base)
        torch.testing.assert_close(logits(bound), expected(written))
        bound.release()


def test_a_view_has_the_entrys_place_shape_and_dtype() -> None:
    base = torch.arange(64, dtype=torch.uint8)
    view = tensor_view(base, TensorEntry(("a",), 16, (2, 3), "bfloat16"))
    assert (view.shape, view.dtype, view.data_ptr()) == ((2, 3), torch.bfloat16, base.data_ptr() + 16)
    assert tensor_view(base, TensorEntry(("a",), 8, (), "float32")).shape == ()


def renamed(entry: TensorEntry) -> TensorEntry:
    return msgspec.structs.replace(entry, names=(*entry.names[:-1], f"model.layers.7.{entry.names[-1]}"))


BAD: list[tuple[str, Change, str]] = [
    ("lacks one", lambda e: None if "1.mlp.up_proj" in e.names[0] else e, "lacks 1 tensors .*layers.1.mlp.up_proj.w"),
    ("lacks a buffer", lambda e: None if "inv_freq" in e.names[0] else e, r"lacks .*rotary_emb\.\w*inv_freq"),
    ("foreign module", lambda e: renamed(e) if "0.mlp.up_proj" in e.names[0] else e, "no tensor model.layers.7.model"),
    (
        "foreign leaf",
        lambda e: msgspec.structs.replace(e, names=("model.norm.bias",)) if e.names == ("model.norm.weight",) else e,
        "no tensor model.norm.bias",
    ),
    (
        "other shape",
        lambda e: msgspec.structs.replace(e, shape=e.shape[::-1]) if "1.mlp.up_proj" in e.names[0] else e,
        r"layers.1.mlp.up_proj.weight has shape \[64, 96\] in the blob, \[96, 64\] in the model",
    ),
    (
        "untied",
        lambda e: msgspec.structs.replace(e, names=e.names[:1]) if len(e.names) > 1 else e,
        "lacks 1 tensors .*(lm_head|embed_tokens).weight",
    ),
]


@pytest.mark.parametrize(("change", "reason"), [(c, r) for _, c, r in BAD], ids=[name for name, _, _ in BAD])
def test_a_manifest_that_does_not_fit_is_refused_by_the_tensors_name(
    written: Written, change: Change, reason: str
) -> None:
    with pytest.raises(ModelError, match=reason):
        build_module(written.folder, written.changed(change))
