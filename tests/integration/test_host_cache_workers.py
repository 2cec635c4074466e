"""Whole workers on one host model cache: no token depends on who takes whose memory, or on its owner's life."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from gpu_worker.host_cache.policy import whole_pages
from shared.config import Config, ModelSource
from tests.integration.host_cache_harness import held_memfds, owner_process
from tests.integration.step_gate import gated_steps
from tests.integration.worker_harness import Harness, TinyModels, running_worker

PROMPT = list(range(2, 30))
NUM_TOKENS = 24


def two_models(tiny_models: TinyModels, socket: Path) -> tuple[list[ModelSource], Config, int]:
    """Their sources, the configuration of a worker with unified memory, and the memory that one of them takes."""
    sources = [tiny_models.source("llama", seed) for seed in (0, 1)]
    config = tiny_models.config(sources, host_cache_socket=str(socket), turn_steps=2)
    return sources, config, whole_pages(tiny_models.weights_file(sources[0]).stat().st_size)


async def check(harness: Harness, tiny_models: TinyModels, sources: Sequence[ModelSource]) -> None:
    """A request of each model at the same time."""
    outputs = await harness.run_all([(source, PROMPT, NUM_TOKENS) for source in sources])
    assert outputs == [tiny_models.generate(source, PROMPT, NUM_TOKENS) for source in sources]


async def test_two_workers_take_turns_with_room_for_one_model(tiny_models: TinyModels, tmp_path: Path) -> None:
    sources, config, one_model = two_models(tiny_models, tmp_path / "socket")
    async with (
        owner_process(tmp_path / "socket", one_model) as owner,
        running_worker(config) as first,
        running_worker(config) as second,
    ):
        await asyncio.gather(check(first, tiny_models, sources), check(second, tiny_models, sources[::-1]))
        assert [num_bytes for _, num_bytes in held_memfds(owner.pid)] == [one_model]
        assert "copied" in {switch.kind for harness in (first, second) for switch in harness.switches}


async def test_requests_outlive_the_owner(
    tiny_models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed in a step with the other model still to be read, and started again."""
    sources, config, one_model = two_models(tiny_models, tmp_path / "socket")
    async with owner_process(tmp_path / "socket", one_model) as owner, running_worker(config) as harness:
        async with gated_steps(monkeypatch) as gate:
            checking = asyncio.create_task(check(harness, tiny_models, sources))
            await gate.arrival()
            owner.kill()
            await owner.wait()
        async with owner_process(tmp_path / "socket", one_model):
            await checking
