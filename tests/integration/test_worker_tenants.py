"""Tenants on a real worker: who is served before whom, and that it changes no token."""

import pytest

from shared.ids import RequestId
from tests.integration.step_gate import gated_steps
from tests.integration.tiny_models import TinyModels
from tests.integration.worker_harness import Harness, running_worker

NUM_TOKENS = 4


def first_frames(harness: Harness) -> list[RequestId]:
    """In the order of their first tokens."""
    entries = [entry for frame in harness.frames for entry in frame.sequences if entry.first == 0 and entry.token_ids]
    return [entry.request_id for entry in entries]


@pytest.mark.parametrize("policy", ["deadline", "round-robin"])
async def test_a_newcomer_passes_the_queue_of_another_tenant(
    tiny_models: TinyModels, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny_models.source("llama")
    config = tiny_models.config([source], max_running=2, policy=policy)
    prompts = [list(range(2 + i, 22 + i)) for i in range(10)]
    async with running_worker(config) as harness:
        async with gated_steps(monkeypatch) as gate:
            flood = [await harness.submit(source.name, prompt, NUM_TOKENS, tenant="flood") for prompt in prompts[:9]]
            await gate.arrival()  # two of them run
            other = await harness.submit(source.name, prompts[9], NUM_TOKENS, tenant="other")
            gate.open()
            streams = [await harness.finish(request_id) for request_id in (*flood, other)]
        order = first_frames(harness)
        assert order.index(other) in (2, 3)  # one of the next two that are let in
        assert [request_id for request_id in order if request_id != other] == flood
        expected = [tiny_models.generate(source, prompt, NUM_TOKENS) for prompt in prompts]
        assert [stream.tokens for stream in streams] == expected


async def test_one_tenant_waits_its_turn(tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tiny_models.source("llama")
    async with running_worker(tiny_models.config([source], max_running=2)) as harness:
        async with gated_steps(monkeypatch) as gate:
            ids = [await harness.submit(source.name, [2 + i] * 20, NUM_TOKENS, tenant="one") for i in range(6)]
            await gate.arrival()
            gate.open()
            for request_id in ids:
                await harness.finish(request_id)
        assert first_frames(harness) == ids
