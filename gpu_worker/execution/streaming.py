"""The first step of a model whose weights are still on their way: each layer waits for its own bytes only.

The order of a stream differs from the blob's: small tensors first, then layer by layer, and the matrices at both ends
last. The step needs few rows of the embedding, and reads these from the host's blob.
"""

from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from gpu_worker.device.base import Piece, Transfer
from gpu_worker.execution.module import BoundModule
from shared.catalogue import Manifest, TensorEntry
from shared.errors import ModelError


@dataclass(frozen=True)
class Span:
    """Bytes [start, end) of a blob."""

    start: int
    end: int


@dataclass(frozen=True)
class StreamOrder:
    """In which order a blob is copied, and how many bytes of that order each part of the model needs."""

    spans: tuple[Span, ...]
    small_bytes: int  # before anything runs
    layer_bytes: tuple[int, ...]  # before layer i runs; the output head needs all

    def pieces(self, destination: Tensor, source: Tensor) -> list[Piece]:
        """destination, source: [blob_bytes] uint8."""
        return [Piece(destination[span.start : span.end], source[span.start : span.end]) for span in self.spans]


@dataclass(frozen=True)
class Stream:
    """Weights on their way to the device."""

    transfer: Transfer  # in the StreamOrder of its model
    blob: Tensor  # [blob_bytes] uint8, host


@dataclass(frozen=True)
class StreamedModule:
    """A module's parts that wait for their bytes, looked up once."""

    bound: BoundModule
    order: StreamOrder
    layers: Sequence[nn.Module]
    embedding: Any
    head: Any  # its weight may be the embedding's

    @contextmanager
    def receiving(self, stream: Stream) -> Iterator[None]:
        """Within the block the module's forward pass waits for its bytes as it goes."""
        transfer, weight = stream.transfer, self.embedding.weight
        rows, place = self.bound.view_of(weight, stream.blob), weight.data

        def read_host(*_: Any) -> None:
            transfer.wait(self.order.small_bytes)
            weight.data = rows

        def read_device(*_: Any) -> None:
            weight.data = place

        def wait_for(num_bytes: int) -> Callable[..., None]:
            return lambda *_: transfer.wait(num_bytes)

        with ExitStack() as hooks:
            hooks.callback(read_device)
            handles = [
                self.embedding.register_forward_pre_hook(read_host),
                self.embedding.register_forward_hook(read_device),
            ]
            for layer, num_bytes in zip(self.layers, self.order.layer_bytes, strict=True):
                handles.append(layer.register_forward_pre_hook(wait_for(num_bytes)))
            handles.append(self.head.register_forward_pre_hook(wait_for(transfer.num_bytes)))
            for handle in handles:
                hooks.callback(handle.remove)
            yield


def streamed_module(bound: BoundModule) -> StreamedModule:
    """Raises ModelError where the module's layers can't be told."""
    layers = _layers(bound.module)
    embedding, head = bound.module.get_input_embeddings(), bound.module.get_output_embeddings()  # type: ignore[operator]
    order = _stream_order(bound, [name for name, _ in layers], {id(embedding.weight), id(head.weight)})
    return StreamedModule(bound, order, [layer for _, layer in layers], embedding, head)


def _stream_order(bound: BoundModule, layers: Sequence[str], ends: Set[int]) -> StreamOrder:
    """layers: their names. ends: ids of the weights at both ends of the module."""
    stages: list[list[TensorEntry]] = [[] for _ in range(len(layers) + 2)]  # small, layers, ends
    layer_of = {f"{name}.": i for i, name in enumerate(layers)}
    for entry, slot in bound.entries():
        inside = [i for prefix, i in layer_of.items() if entry.names[0].startswith(prefix)]
        stages[inside[0] + 1 if inside else -1 if id(slot) in ends else 0].append(entry)
    spans: list[Span] = []
    needed: list[int] = []
    for stage in stages:
        spans += _spans(stage, bound.manifest)
        needed.append(sum(span.end - span.start for span in spans))
    return StreamOrder(tuple(spans), needed[0], tuple(needed[1:-1]))


def _layers(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """The decoder layers with their names, in order. Raises ModelError where they can't be told."""
    num_layers = module.config.num_hidden_layers  # type: ignore[union-attr]
    for name, child in module.named_modules():
        if isinstance(child, nn.ModuleList) and len(child) == num_layers:
            return [(f"{name}.{i}", layer) for i, layer in enumerate(child)]
    raise ModelError(f"{type(module).__name__} has no list of its {num_layers} layers")


def _spans(entries: Sequence[TensorEntry], manifest: Manifest) -> list[Span]:
    """Their bytes, neighbours joined; each entry reaches to the next, so that all spans tile the blob."""
    starts = sorted(entry.offset for entry in manifest.tensors)
    ends = dict(zip(starts, [*starts[1:], manifest.blob_bytes], strict=True))
    spans: list[Span] = []
    for start in sorted(entry.offset for entry in entries):
        if spans and spans[-1].end == start:
            spans[-1] = Span(spans[-1].start, ends[start])
        else:
            spans.append(Span(start, ends[start]))
    return spans
