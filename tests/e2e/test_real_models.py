"""The demo models in one worker against transformers alone: float32 token for token, bf16 up to near ties.

In bf16 the shapes of matrix products alone change last bits. There transformers, alone over the same tokens, must rank
each chosen token within a tolerance of its best. The tolerance is twice what a logit differs between transformers'
batch of one and its batch of all on these texts, and no less than rounding it to bf16 takes: once for the token that
we took, once for the one that we passed over.
"""

from pathlib import Path
from typing import Final, Literal

import pytest
import torch
from torch import Tensor

from shared.config import Config, WorkerConfig
from shared.ids import ModelName
from tests.e2e.demo_models import Demo, demo_config, open_demos
from tests.integration.worker_harness import Harness, running_worker

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS: Final = (
    "The capital of France is",
    "Once upon a time, in a village by the sea, there lived",
    "def fibonacci(n):\n    ",
    "Water boils at a temperature of",
    "Die drei größten Städte Deutschlands sind Berlin,",
)
NUM_TOKENS: Final = 32
LEAST_ALIKE: Final = 0.9  # share of bf16 tokens that are the reference's own choice
BFLOAT16_ROUNDING: Final = 2.0**-8  # relative, at most
_TOP: Final = 5  # tokens of a position whose logits count for the tolerance
# Weights and KV: what the larger model takes leaves too little for the other one.
DEVICE_BYTES: Final = {"float32": 1400 << 20, "bfloat16": 760 << 20}


async def open_worker(cache_dir: Path, dtype: Literal["float32", "bfloat16"]) -> tuple[Config, list[Demo]]:
    """Of this configuration it holds one model at a time."""
    worker = WorkerConfig(
        dtype=dtype,
        device_memory_bytes=DEVICE_BYTES[dtype],
        kv_memory_bytes=128 << 20,
        num_threads=1,
        policy="round-robin",
        turn_steps=4,
    )
    config = demo_config(cache_dir, worker)
    return config, await open_demos(config, TEXTS)


async def run_all(harness: Harness, demos: list[Demo], num_prompts: int) -> dict[ModelName, list[list[int]]]:
    """All at once -> the outputs of each model."""
    ids = {
        demo.name: [await harness.submit(demo.name, prompt, NUM_TOKENS) for prompt in demo.prompts[:num_prompts]]
        for demo in demos
    }
    return {name: [(await harness.finish(i)).tokens for i in requests] for name, requests in ids.items()}


def assert_switched(harness: Harness) -> None:
    assert len(harness.switches) >= 2 * NUM_TOKENS // 4
    assert all(switch.kind == "copied" for switch in harness.switches)


async def test_float32_output_is_transformers_own(demo_cache: Path) -> None:
    config, demos = await open_worker(demo_cache, "float32")
    async with running_worker(config) as harness:
        outputs = await run_all(harness, demos, num_prompts=3)
        assert_switched(harness)
    for demo in demos:
        for prompt, output in zip(demo.prompts[:3], outputs[demo.name], strict=True):
            assert output == demo.generate(prompt, NUM_TOKENS, output)


async def test_bfloat16_output_is_within_transformers_own_spread(demo_cache: Path) -> None:
    config, demos = await open_worker(demo_cache, "bfloat16")
    async with running_worker(config) as harness:
        outputs = await run_all(harness, demos, num_prompts=len(TEXTS))
        assert_switched(harness)
    for demo in demos:
        sequences = list(zip(demo.prompts, outputs[demo.name], strict=True))
        alone = [demo.logits([sequence])[0] for sequence in sequences]
        rounding = max(logits.max().item() for logits in alone) * BFLOAT16_ROUNDING
        tolerance = 2 * max(rounding, *map(spread, alone, demo.logits(sequences)))
        missed = torch.cat([below_best(logits, output) for logits, (_, output) in zip(alone, sequences, strict=True)])
        alike = (missed == 0).float().mean().item()
        print(
            f"{demo.name}: {alike:.1%} of {len(missed)} tokens are the reference's choice, "
            f"the others miss its best logit by {missed.max():.3f} at most; tolerance {tolerance:.3f}"
        )
        assert missed.max() <= tolerance
        assert alike >= LEAST_ALIKE


def spread(alone: Tensor, together: Tensor) -> float:
    """The largest difference of a logit that could have been chosen; both [num_tokens, vocab_size]."""
    top = alone.topk(_TOP).indices
    return (alone.gather(1, top) - together.gather(1, top)).abs().max().item()


def below_best(logits: Tensor, output: list[int]) -> Tensor:
    """[num_tokens]: by how much each chosen token misses the best."""
    return logits.max(-1).values - logits.gather(1, torch.tensor(output)[:, None])[:, 0]
