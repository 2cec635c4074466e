"""The real runs of benchmarks.goodput."""

from pathlib import Path

from benchmarks import bare_worker
from benchmarks.goodput.copies import DTYPE, KV_TOKEN_BYTES, make_copies
from benchmarks.goodput.real_run import measure, replay, worker_config
from gpu_worker.scheduling.costs import StepCosts
from shared.config import Config
from simulator.policies import simulate_policy
from simulator.run import Window
from simulator.setup import Setup
from tests.integration.tiny_models import import_models

COSTS = StepCosts(base_s=5e-3, prefill_s=30e-6, pair_s=0.0, decode_s=60e-6, context_s=0.2e-6)
SETUP = Setup(
    COSTS,
    num_models=2,
    num_places=1,
    blob_bytes=24 << 20,
    kv_token_bytes=KV_TOKEN_BYTES,
    kv_bytes=64 << 20,
    ttft_steps=200.0,  # a second
    divisor=40.0,
)


async def test_a_real_worker_gets_the_simulators_requests_and_its_client_every_token(tmp_path: Path) -> None:
    sources = make_copies(tmp_path / "models", 2)
    config = Config(tuple(sources), cache_dir=tmp_path / "cache", worker=worker_config(SETUP, "round-robin", 1))
    assert config.worker.dtype == DTYPE
    import_models(config)
    requests = SETUP.workload(10.0).requests(2.0, seed=0)
    async with bare_worker.running(config) as worker:
        written = await replay(worker, requests, until_s=120.0)
    assert len(requests) > 5
    for request in requests:
        times = written[request.request_id]
        assert len(times) == request.num_output_tokens
        assert request.arrives_at_s < times[0]
        assert times == sorted(times)

    window = Window(warm_up_s=0.2, measured_s=1.0)
    real = await measure(SETUP, "static", 20.0, window, 0, sources, tmp_path / "cache", 1)
    simulated = simulate_policy("static", SETUP, 20.0, window, 0).attainment
    assert (real.num_requests, real.num_tokens) == (simulated.num_requests, simulated.num_tokens)
    assert real.by_model.keys() == simulated.by_model.keys()
    assert real.by_model[sources[1].name] == 0.0  # type: ignore[index]
