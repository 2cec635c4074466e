"""A streamed step asks for its bytes part by part, and needs nothing that it has not asked for."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor

from benchmarks.tiny_models import FAMILIES, make_tiny_model
from gpu_worker.device.base import KvLayout, Piece, SequenceSpan
from gpu_worker.device.cpu import CpuDevice
from gpu_worker.execution.executor import Executor, PartOutput, StepPart
from gpu_worker.execution.module import build_module
from gpu_worker.execution.sampling import SamplingRow
from gpu_worker.execution.streaming import Stream
from gpu_worker.importer.blob import write_blob
from gpu_worker.importer.texts import make_card
from shared.messages import Sampling

PROMPT = [5, 6, 7, 8, 9]
GREEDY = SamplingRow(Sampling(max_tokens=1, seed=0, temperature=0.0), 0, frozenset(), Counter())


@dataclass
class LazyTransfer:
    """Copies only what somebody waits for, at the last moment."""

    pieces: list[Piece]
    arrived_bytes: int = 0
    waits: list[int] = field(default_factory=list)

    @property
    def num_bytes(self) -> int:
        return sum(piece.source.numel() for piece in self.pieces)

    def wait(self, num_bytes: int | None = None) -> None:
        wanted = self.num_bytes if num_bytes is None else num_bytes
        self.waits.append(wanted)
        start = 0
        for destination, source in self.pieces:
            num = min(source.numel(), max(0, wanted - start))
            destination[:num].copy_(source[:num])
            start += source.numel()
        self.arrived_bytes = max(self.arrived_bytes, wanted)

    def when_ended(self, callback: Callable[[], object]) -> None:
        raise NotImplementedError

    def hurry(self) -> None:
        raise NotImplementedError

    def cancel(self) -> None:
        raise NotImplementedError


class Loaded:
    def __init__(self, family: str, folder: Path) -> None:
        make_tiny_model(family, folder)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.manifest = write_blob(model, "float32", folder, lambda progress: None)
        self.blob = torch.frombuffer(bytearray((folder / "weights.bin").read_bytes()), dtype=torch.uint8)
        kv = make_card(model, folder).kv
        block_bytes = kv.token_bytes(4) * 16
        layout = KvLayout(kv, torch.float32, 16, block_bytes, block_bytes, block_bytes)
        device = CpuDevice(unified=True)
        self.executor = Executor(device, build_module(folder, self.manifest), device.allocate(block_bytes), layout)
        self.num_layers = kv.num_layers

    def step(self, stream: Stream | None = None) -> PartOutput:
        part = StepPart(SequenceSpan(len(PROMPT), 0, [0]), PROMPT, GREEDY)
        return self.executor.step([part], stream)[0]


@pytest.fixture(scope="module", params=FAMILIES)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    yield Loaded(request.param, tmp_path_factory.mktemp("model"))


def nans(blob: Tensor) -> Tensor:
    """Every float of it is NaN."""
    return torch.full_like(blob, 255)


def test_the_order_holds_each_byte_once(loaded: Loaded) -> None:
    order = loaded.executor.stream_order
    assert order is not None
    spans = sorted((span.start, span.end) for span in order.spans)
    assert spans[0][0] == 0
    assert spans[-1][1] == loaded.manifest.blob_bytes
    assert all(left[1] == right[0] for left, right in pairwise(spans))
    assert list(order.layer_bytes) == sorted(set(order.layer_bytes))
    assert order.small_bytes < order.layer_bytes[0]
    assert order.layer_bytes[-1] < loaded.manifest.blob_bytes


def test_a_step_waits_for_what_it_uses_and_before_it_uses_it(loaded: Loaded) -> None:
    loaded.executor.bind(loaded.blob)
    expected = loaded.step()
    place = nans(loaded.blob)
    order = loaded.executor.stream_order
    assert order is not None
    transfer = LazyTransfer(order.pieces(place, loaded.blob))
    loaded.executor.bind(place)
    assert loaded.step(Stream(transfer, loaded.blob)) == expected
    assert transfer.waits == [order.small_bytes, *order.layer_bytes, loaded.manifest.blob_bytes]
    assert torch.equal(place, loaded.blob)


def test_the_next_step_waits_for_nothing(loaded: Loaded) -> None:
    order = loaded.executor.stream_order
    assert order is not None
    place = nans(loaded.blob)
    transfer = LazyTransfer(order.pieces(place, loaded.blob))
    loaded.executor.bind(place)
    first = loaded.step(Stream(transfer, loaded.blob))
    num_waits = len(transfer.waits)
    assert loaded.step() == first
    assert len(transfer.waits) == num_waits
