"""The probe lets a model pass that our executor computes rightly, and refuses it when any part of that goes wrong."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
import transformers
from torch import Tensor, nn

from benchmarks.tiny_models import make_tiny_model
from gpu_worker.device.base import KvLayout, KvMemory, SequenceSpan, StepAttention
from gpu_worker.device.cpu import CpuDevice
from gpu_worker.execution import probe as probe_module
from gpu_worker.execution.module import BoundModule
from gpu_worker.execution.probe import probe
from gpu_worker.importer.blob import write_blob
from gpu_worker.importer.texts import make_card
from shared.catalogue import Manifest
from shared.errors import ModelError

FAMILIES = ("llama", "mistral", "gemma3", "gpt_neox", "phi", "qwen3_moe")
WINDOWED = ("mistral", "gemma3")
OtherWindow = Callable[[int | None], int | None]


@dataclass
class Imported:
    """What an import has made by the time it probes."""

    model: transformers.PreTrainedModel
    folder: Path
    manifest: Manifest

    def probe(self) -> None:
        probe(self.model, self.folder, self.folder, self.manifest)


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, str], Imported]]:
    made: dict[tuple[str, str], Imported] = {}

    def get(family: str, dtype: str = "float32") -> Imported:
        if (family, dtype) not in made:
            folder = make_tiny_model(family, tmp_path_factory.mktemp(family))
            model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
            (folder / "card.json").write_bytes(msgspec.json.encode(make_card(model, folder)))
            made[family, dtype] = Imported(model, folder, write_blob(model, dtype, folder, lambda progress: None))
        return made[family, dtype]

    yield get


# --- ways to go wrong ---------------------------------------------------------------------------


@dataclass
class FaultyAttention:
    """The CPU's attention, with something about it changed."""

    inner: Any  # KvMemory, then StepAttention
    fault: "Fault"

    def prepare(self, spans: Sequence[SequenceSpan]) -> StepAttention:
        return FaultyAttention(self.inner.prepare(self.fault.spans(spans)), self.fault)

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float,
        window: int | None,
        softcap: float | None,
    ) -> Tensor:
        fault = self.fault
        return fault.factor * self.inner.attend(
            layer, query, key, value, scaling * fault.scaling, fault.window(window), softcap
        )


@dataclass
class Fault:
    window: OtherWindow = field(default=lambda window: window)
    scaling: float = 1.0
    factor: float = 1.0
    spans: Callable[[Sequence[SequenceSpan]], Sequence[SequenceSpan]] = field(default=lambda spans: spans)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def open_kv(
            device: CpuDevice,
            region: Tensor,
            layout: KvLayout,
            original: Callable[..., KvMemory] = CpuDevice.open_kv,
        ) -> KvMemory:
            return FaultyAttention(original(device, region, layout), self)

        monkeypatch.setattr(CpuDevice, "open_kv", open_kv)


def foreign_blocks(spans: Sequence[SequenceSpan]) -> Sequence[SequenceSpan]:
    """The shorter sequence's decode step reads the longer one's KV."""
    if any(span.num_new > 1 for span in spans):
        return spans
    return [replace(span, block_ids=spans[0].block_ids) for span in spans]


def install_positions(monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor], Tensor]) -> None:
    def hook(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return arguments, {**named, "position_ids": change(named["position_ids"])}

    def build(*arguments: Any, original: Callable[..., BoundModule] = probe_module.build_module) -> BoundModule:
        bound = original(*arguments)
        bound.module.register_forward_pre_hook(hook, with_kwargs=True)
        return bound

    monkeypatch.setattr(probe_module, "build_module", build)


# --- tests --------------------------------------------------------------------------------------

Get = Callable[..., Imported]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_computed_rightly_passes(imported: Get, family: str, dtype: str) -> None:
    imported(family, dtype).probe()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", WINDOWED)
@pytest.mark.parametrize(
    "window",
    [lambda window: None, lambda window: window and window + 1, lambda window: window and window - 1],
    ids=["ignored", "one more", "one less"],
)
def test_a_wrong_window_is_refused(
    imported: Get, family: str, dtype: str, window: OtherWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    Fault(window=window).install(monkeypatch)
    with pytest.raises(ModelError, match=r"ForCausalLM computes something else when packed: logits differ by .*%"):
        imported(family, dtype).probe()


@pytest.mark.parametrize(
    "change",
    [
        lambda positions: positions * 2,
        lambda positions: positions.clamp(max=10),
        lambda positions: positions + (positions.min() > 0),  # against what earlier chunks have in KV
    ],
    ids=["doubled", "clamped", "shifted between chunks"],
)
def test_wrong_positions_are_refused(
    imported: Get, change: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    install_positions(monkeypatch, change)
    with pytest.raises(ModelError, match="attention or positions are not supported"):
        imported("llama").probe()


@pytest.mark.parametrize(
    "fault",
    [Fault(scaling=1.1), Fault(factor=0.9), Fault(spans=foreign_blocks), Fault(factor=float("nan"))],
    ids=["scaling", "values", "blocks of another", "not a number"],
)
def test_wrong_attention_is_refused(imported: Get, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault.install(monkeypatch)
    with pytest.raises(ModelError, match="computes something else"):
        imported("llama").probe()
