"""What a worker's metrics say is what its owners and its events say."""

import asyncio
from collections.abc import Callable

import pytest

from shared.config import TelemetryConfig
from tests.integration.test_exactness import prompts
from tests.integration.test_worker_switching import KV_BYTES, NUM_TOKENS, ONE_MODEL_BYTES, PROMPT, start_together
from tests.integration.tiny_models import TinyModels
from tests.integration.worker_harness import Harness, running_worker
from tests.scrapes import samples, scrape


async def measured(harness: Harness) -> Callable[..., float]:
    """0 for what a scrape does not have. Rendered as in production: beside the loop."""
    harness.registry.attach(asyncio.get_running_loop())
    found = samples(await asyncio.to_thread(harness.registry.render))
    return lambda name, *labels: found.get(f"{name}{{{','.join(labels)}}}", 0.0)


async def test_switches_steps_and_memory(tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two models, one of which fits."""
    sources = [tiny_models.source("llama"), tiny_models.source("gemma3")]
    config = tiny_models.config(sources, device_memory_bytes=ONE_MODEL_BYTES + KV_BYTES, turn_steps=4)
    async with running_worker(config) as harness:
        for request_id in await start_together(harness, sources, monkeypatch):
            await harness.finish(request_id)
        await harness.beat_where(lambda beat: not any(model.num_running for model in beat.models))
        value = await measured(harness)
    switches = harness.switches
    assert len(switches) >= 2 and {switch.kind for switch in switches} == {"copied"}
    assert value("kottos_switches_total", "copied") == value("kottos_switch_seconds_count", "copied") == len(switches)
    assert value("kottos_switch_bytes_total", "copied") == sum(switch.copied_bytes for switch in switches)
    assert value("kottos_switch_seconds_sum", "copied") == pytest.approx(sum(switch.waited_s for switch in switches))
    for source in sources:
        num_steps = value("kottos_steps_total", source.name)
        assert num_steps == value("kottos_model_wait_seconds_count", source.name) == NUM_TOKENS
        assert value("kottos_step_tokens_total", source.name, "prefill") == len(PROMPT)
        assert value("kottos_step_tokens_total", source.name, "decode") == NUM_TOKENS - 1
        assert value("kottos_model_cached_bytes", source.name) == tiny_models.weights_file(source).stat().st_size
        assert value("kottos_sequences", source.name, "running") == 0
    resident = [value("kottos_model_resident_bytes", source.name) for source in sources]
    assert sorted(resident)[0] == 0 and sum(resident) == switches[-1].copied_bytes
    assert sum(value("kottos_kv_bytes", "device", state) for state in ("used", "kept", "free")) == KV_BYTES
    assert value("kottos_kv_bytes", "device", "kept") > 0
    assert value("kottos_frames_total") == len(harness.frames)
    assert value("kottos_bus_connected") == 1
    assert value("kottos_loop_cpu_seconds_total") > 0


async def test_preempted_sequences_and_their_copies(tiny_models: TinyModels) -> None:
    source = tiny_models.source("llama")
    block_bytes = tiny_models.block_bytes(source)
    config = tiny_models.config(
        [source],
        kv_memory_bytes=24 * block_bytes,
        slab_bytes=4 * block_bytes,
        host_kv_memory_bytes=100 * block_bytes,
        prefix_cache=False,
    )
    async with running_worker(config) as harness:
        ids = [await harness.submit(source.name, prompt, 60) for prompt in prompts(8, seed=2)]
        value = await measured(harness)
        busy = value("kottos_sequences", source.name, "running") + value("kottos_sequences", source.name, "waiting")
        assert busy <= len(ids)
        ends = [stream.ended for request_id in ids if (stream := await harness.finish(request_id)).ended]
        await harness.beat_where(lambda beat: not any(model.num_running for model in beat.models))
        value = await measured(harness)
    num_swaps = sum(end.num_swaps for end in ends)
    assert num_swaps > 0
    assert value("kottos_preemptions_total", source.name) == sum(end.num_preemptions for end in ends)
    assert value("kottos_kv_swaps_total", "host") == value("kottos_kv_swaps_total", "device") == num_swaps
    assert value("kottos_kv_copies_total", "host") == num_swaps
    assert value("kottos_kv_copied_bytes_total", "host") >= num_swaps * block_bytes
    assert value("kottos_kv_free_slabs", "device") == 6
    assert value("kottos_kv_slabs", str(block_bytes), "device") == 0
    assert value("kottos_kv_fragmentation_ratio", "device") == 0


async def test_prefix_hits_and_the_slab_that_keeps_them(tiny_models: TinyModels) -> None:
    source = tiny_models.source("llama")
    block_bytes = tiny_models.block_bytes(source)
    config = tiny_models.config([source], kv_memory_bytes=16 * block_bytes, slab_bytes=8 * block_bytes)
    async with running_worker(config) as harness:
        for _ in range(2):  # 40 tokens: two full blocks, and one more with the output
            await harness.finish(await harness.submit(source.name, PROMPT, 1))
        await harness.beat_where(lambda beat: not any(model.num_running for model in beat.models))
        value = await measured(harness)
    assert value("kottos_prefix_queried_tokens_total") == 2 * len(PROMPT)
    assert value("kottos_prefix_cached_tokens_total") == 32
    assert value("kottos_kv_bytes", "device", "kept") == 2 * block_bytes
    assert value("kottos_kv_slabs", str(block_bytes), "device") == 1
    assert value("kottos_kv_fragmentation_ratio", "device") == 6 / 16


async def test_what_came_ahead_of_its_turn_was_hidden(tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [tiny_models.source("llama"), tiny_models.source("gemma3")]
    config = tiny_models.config(
        sources, device_memory_bytes=2 * ONE_MODEL_BYTES + KV_BYTES, link_bandwidth_bytes=1 << 30, turn_steps=4
    )
    async with running_worker(config) as harness:
        for request_id in await start_together(harness, sources, monkeypatch):
            await harness.finish(request_id)
        await harness.beats(2)
        value = await measured(harness)
    hidden = [switch for switch in harness.switches if switch.kind in ("prefetched", "streamed")]
    overlapped_s = sum(switch.overlapped_s for switch in hidden)
    assert overlapped_s > 0
    assert value("kottos_switch_overlapped_seconds_total") == pytest.approx(overlapped_s)
    assert value("kottos_prefetches_total", "started") == 1
    assert value("kottos_prefetches_total", "used") == 1
    assert value("kottos_prefetches_total", "wasted") == 0


async def test_a_scrape_over_http_beside_a_running_loop(tiny_models: TinyModels) -> None:
    source = tiny_models.source("llama")
    async with running_worker(tiny_models.config([source])) as harness:
        harness.registry.attach(asyncio.get_running_loop())
        await harness.finish(await harness.submit(source.name, PROMPT, 4))
        with harness.registry.serving(TelemetryConfig(metrics_host="127.0.0.1")) as address:
            found = await asyncio.to_thread(scrape, address)
    assert found[f"kottos_steps_total{{{source.name}}}"] == 4
