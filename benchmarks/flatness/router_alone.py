"""The router's decisions alone: its table of assignments has more places than the stack's run has requests."""

import gc
import os

from benchmarks.flatness.containers import TABLE_PREFIX, held, num_blocks
from benchmarks.flatness.samples import Samples
from benchmarks.processes import size_of
from router.dispatch import Dispatcher
from router.state import MAX_ASSIGNMENTS
from shared.config import RouterConfig
from shared.ids import Incarnation, ModelName, OwnerId, RequestId, WorkerId, new_id
from shared.messages import ModelLoad, Sampling, Submit, WorkerBeat

_ROUTER = Incarnation("router-0")
_MODEL = ModelName("model")
_BEAT_EVERY = 64  # requests


def run(num_samples: int) -> tuple[Samples, str]:
    """-> samples, the table full by the middle of them, and what went on meanwhile."""
    num_requests = 3 * MAX_ASSIGNMENTS
    every = num_requests // num_samples
    samples = Samples()
    dispatcher = Dispatcher(RouterConfig(), _ROUTER, settled_at_s=0.0)
    for number in range(1, num_requests + 1):
        if number % _BEAT_EVERY == 1:
            dispatcher.hear(_beat(number - 1), now_s=1.0)
        request_id = RequestId(new_id("request"))
        sampling = Sampling(max_tokens=1, seed=0)
        dispatcher.submit(Submit(request_id, 0, OwnerId("owner-0"), _MODEL, (1, 2, 3), sampling), now_s=1.0)
        if number % every == 0:
            gc.collect()
            tables = {f"{TABLE_PREFIX}{name}": num for name, num in held(gc.get_objects()).items()}
            rss_bytes = size_of(os.getpid()).rss_bytes
            samples.add(number, {"blocks of Python": num_blocks(), "process RSS": rss_bytes, **tables})
    summary = (
        f"The router's dispatcher alone, {num_requests:,} requests for one worker: it remembers the newest "
        f"{MAX_ASSIGNMENTS:,} assignments, so it grows until it has seen so many, and no further."
    )
    return samples, summary


def _beat(last_assignment: int) -> WorkerBeat:
    return WorkerBeat(
        worker=WorkerId("worker-0"),
        incarnation=Incarnation("worker-0"),
        number=1,
        models=(ModelLoad(_MODEL, "resident", max_sequence_tokens=1000),),
        router=_ROUTER,
        last_assignment=last_assignment,
        kv_used_bytes=0,
        kv_total_bytes=1 << 30,
        last_frames={},
    )
