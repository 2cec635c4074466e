"""One run of a real worker under the simulator's arrivals, judged as its client sees it."""

import asyncio
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks import bare_worker
from benchmarks.bare_worker import BareWorker
from benchmarks.goodput.copies import DTYPE
from benchmarks.tiny_models import VOCAB_SIZE
from gpu_worker.memory.arena import ALIGN_BYTES
from shared.config import Config, ModelSource, PolicyName, WorkerConfig
from shared.ids import RequestId
from simulator.attainment import Attainment, attainment
from simulator.policies import served_models
from simulator.run import Window, last_due_at_s
from simulator.setup import Setup
from simulator.workload import Request

_LEAD_S: Final = 0.5  # until the first arrival


def worker_config(setup: Setup, policy: PolicyName, num_threads: int) -> WorkerConfig:
    place_bytes = -(-setup.blob_bytes // ALIGN_BYTES) * ALIGN_BYTES
    return WorkerConfig(
        dtype=DTYPE,
        policy=policy,
        num_threads=num_threads,
        device_memory_bytes=setup.num_places * place_bytes + setup.kv_bytes,
        kv_memory_bytes=setup.kv_bytes,
        least_kv_memory_bytes=setup.kv_bytes,  # the boundary stays: weights have k places
        most_kv_memory_bytes=setup.kv_bytes,
        host_kv_memory_bytes=setup.kv_bytes,
        host_memory_bytes=2 * setup.num_models * place_bytes,
        link_bandwidth_bytes=round(setup.link_bytes_per_s),
        max_step_tokens=setup.max_step_tokens,
        max_running=setup.max_running,
        turn_steps=setup.turn_steps,
        prefix_cache=False,
    )


async def measure(
    setup: Setup,
    policy: PolicyName,
    requests_per_s: float,
    window: Window,
    seed: int,
    sources: Sequence[ModelSource],
    cache_dir: Path,
    num_threads: int,
) -> Attainment:
    """Requests for models that the worker does not take are refused, as in the simulator."""
    served = {model.name for model in served_models(policy, setup)}
    config = Config(
        models=tuple(source for source in sources if source.name in served),
        cache_dir=cache_dir,
        worker=worker_config(setup, policy, num_threads),
        log_level="warning",
    )
    requests = setup.workload(requests_per_s).requests(window.total_s(setup.slo.ttft_s), seed)
    measured = window.measured(requests)
    async with bare_worker.running(config) as worker:
        written = await replay(worker, [r for r in requests if r.model in served], last_due_at_s(measured))
    return attainment(measured, written)


async def replay(worker: BareWorker, requests: Sequence[Request], until_s: float) -> dict[RequestId, list[float]]:
    """When the client got each token, in seconds from the start. What has not come by `until_s` never does."""
    rng = random.Random(0)
    prompts = [[rng.randrange(2, VOCAB_SIZE) for _ in range(request.num_prompt_tokens)] for request in requests]
    began_at_s = time.perf_counter() + _LEAD_S
    sent: dict[RequestId, bare_worker.Request] = {}
    ends: list[asyncio.Task[object]] = []
    for request, prompt in zip(requests, prompts, strict=True):
        await asyncio.sleep(max(0.0, began_at_s + request.arrives_at_s - time.perf_counter()))
        one = await worker.submit(request.model, prompt, request.num_output_tokens, request.slo)
        sent[request.request_id] = one
        ends.append(asyncio.create_task(worker.finish(one)))
    done, late = await asyncio.wait(ends, timeout=max(0.0, began_at_s + until_s - time.perf_counter()))
    for end in done:
        end.result()  # raises where one ended with an error
    for end in late:
        end.cancel()
    written = {key: [at_s - began_at_s for at_s in one.token_at_s] for key, one in sent.items()}
    for one in sent.values():
        if one.ended is None:
            await worker.cancel(one)
    return written
