"""What a step costs on this machine, as a worker runs it under load: measured, and fitted as StepCosts.

Steps beside copies, and of models whose weights have left the processor's caches, take longer. So a worker whose
weights stay only says how fast the link is to be; then one that shares memory for few, as measured later, is watched.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from msgspec.structs import replace

from benchmarks import bare_worker
from benchmarks.goodput.copies import DTYPE, KV_TOKEN_BYTES, NUM_LAYERS
from benchmarks.goodput.real_run import replay, worker_config
from gpu_worker.execution.executor import Executor, PartOutput, StepPart
from gpu_worker.execution.streaming import Stream
from gpu_worker.scheduling.costs import StepCosts, StepShape, step_shape
from shared.catalogue import PLAIN_LAYOUT, open_catalogue, read_manifest
from shared.config import Config, ModelSource, WorkerConfig
from shared.slo import Slo
from simulator.goodput import find_goodput
from simulator.run import Window
from simulator.setup import Setup
from simulator.workload import Workload, zipf_shares

_FIRST_RATES: Final = (2.0, 20.0)  # requests/s
_LOADS: Final = (0.25, 0.5, 0.75, 1.0, 1.1)  # of the goodput, as it looks then
_WINDOW: Final = Window(5.0, 15.0)
_SEED: Final = 0
_NUM_STAYING: Final = 3
_MAX_LOOP_S: Final = 0.01  # between two steps; if it is more the worker had nothing to do


@dataclass
class Steps:
    """Steps that ran, and the time between them while there was work."""

    shapes: list[StepShape] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)
    _ended_at_s: float = 0.0

    def add(self, shape: StepShape, began_at_s: float, ended_at_s: float) -> None:
        gap_s = began_at_s - self._ended_at_s
        if gap_s < _MAX_LOOP_S:
            self.gaps_s.append(gap_s)
        self._ended_at_s = ended_at_s
        self.shapes.append(shape)
        self.seconds.append(ended_at_s - began_at_s)


@dataclass(frozen=True, slots=True)
class Calibration:
    costs: StepCosts
    loop_s: float  # mean, from one step to the next
    num_steps: int
    median_error: float  # of the fit, relative
    blob_bytes: int  # of each model's weights


async def calibrate(
    sources: Sequence[ModelSource],
    cache_dir: Path,
    kv_bytes: int,
    seconds: float,
    num_threads: int,
    switch_steps: float,
) -> Calibration:
    """On both workers, `seconds` at each of several loads."""
    staying = Config(
        models=tuple(sources[:_NUM_STAYING]),
        cache_dir=cache_dir,
        worker=WorkerConfig(dtype=DTYPE, kv_memory_bytes=kv_bytes, prefix_cache=False, num_threads=num_threads),
        log_level="warning",
    )
    steps = await _watched(staying, _FIRST_RATES, seconds)
    setup = setup_of(fitted(steps, _blob_bytes(staying)), kv_bytes, switch_steps)
    models = tuple(sources[: setup.num_models])
    sharing = replace(staying, models=models, worker=worker_config(setup, "deadline", num_threads))
    goodput = find_goodput("deadline", setup, _WINDOW, (_SEED,), precision=0.1).requests_per_s
    rates = [load * goodput for load in _LOADS]
    return fitted(await _watched(sharing, rates, seconds), setup.blob_bytes)


def setup_of(measured: Calibration, kv_bytes: int, switch_steps: float) -> Setup:
    return Setup(
        measured.costs,
        blob_bytes=measured.blob_bytes,
        kv_token_bytes=KV_TOKEN_BYTES,
        num_layers=NUM_LAYERS,
        kv_bytes=kv_bytes,
        switch_steps=switch_steps,
        loop_s=measured.loop_s,
    )


async def _watched(config: Config, rates: Sequence[float], seconds: float) -> Steps:
    async with bare_worker.running(config) as worker:
        with watching() as steps:
            for rate in rates:
                workload = Workload(zipf_shares(len(config.models), 0.0), rate, Slo())
                await replay(worker, workload.requests(seconds, _SEED), seconds)
    return steps


def fitted(steps: Steps, blob_bytes: int) -> Calibration:
    costs = fit(steps.shapes, steps.seconds)
    errors = [abs(costs.step_s(shape) / s - 1) for shape, s in zip(steps.shapes, steps.seconds, strict=True)]
    return Calibration(costs, statistics.mean(steps.gaps_s), len(steps.shapes), statistics.median(errors), blob_bytes)


def _blob_bytes(config: Config) -> int:
    entry = next(iter(open_catalogue(config).values()))
    manifest = read_manifest(entry, PLAIN_LAYOUT, DTYPE)
    assert manifest is not None, "the worker imported it"
    return manifest.blob_bytes


def fit(shapes: Sequence[StepShape], seconds: Sequence[float]) -> StepCosts:
    """Least squares of relative errors, without negative coefficients; twice, the second time without outliers.

    Scaled so that all steps together take what they took: relative errors and left out outliers pull below that.
    """
    columns = np.array([(1.0, s.num_prefill_tokens, s.num_prefill_pairs, *s[:2]) for s in shapes])
    times = np.array(seconds)
    kept = np.ones(len(times), dtype=bool)
    coefficients = np.zeros(columns.shape[1])
    for _ in range(2):
        coefficients = _non_negative(columns[kept] / times[kept, None])
        errors = np.abs(columns @ coefficients / times - 1)
        kept = errors <= max(4 * float(np.median(errors)), 1e-9)
    coefficients *= times.sum() / (columns @ coefficients).sum()
    return StepCosts(*(float(value) for value in coefficients))


def _non_negative(columns: "np.ndarray[tuple[int, int], np.dtype[np.float64]]") -> "np.ndarray":
    """x >= 0 with columns @ x nearest to 1: what comes out negative is left out, one by one."""
    scale = columns.max(axis=0)
    used = [i for i in range(columns.shape[1]) if scale[i] > 0]
    while True:
        solution, *_ = np.linalg.lstsq(columns[:, used] / scale[used], np.ones(len(columns)), rcond=None)
        if (solution >= 0).all():
            break
        del used[int(solution.argmin())]
    result = np.zeros(columns.shape[1])
    result[used] = solution / scale[used]
    return result


@contextmanager
def watching() -> Iterator[Steps]:
    steps, step = Steps(), Executor.step
    is_streamed = False  # such a step waits for weights, and calls itself without a stream

    def timed(self: Executor, parts: Sequence[StepPart], stream: Stream | None = None) -> list[PartOutput]:
        nonlocal is_streamed
        if is_streamed or stream is not None:
            is_streamed = stream is not None
            return step(self, parts, stream)
        began_at_s = time.perf_counter()
        tokens = step(self, parts, stream)
        steps.add(step_shape((part.span.num_new, part.span.start) for part in parts), began_at_s, time.perf_counter())
        return tokens

    Executor.step = timed  # type: ignore[method-assign]
    try:
        yield steps
    finally:
        Executor.step = step  # type: ignore[method-assign]
