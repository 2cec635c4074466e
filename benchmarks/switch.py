"""What changing models costs: from the decision to the first operation that may run, beside the floor.

python -m benchmarks.switch [--models smollm2-135m gemma3-270m] [--repeats 30] [--link-bandwidth 2GiB/s]

Each way of bringing weights in is the worker's own (`gpu_worker/loader.py`), on the demo models in bfloat16. The floor
is one copy of the same bytes by the same threads, in turns with the plain switch. Over the emulated link, the first
step is a prompt of 128 tokens: streamed, it begins at once; plain, it waits for the copy. What others do at a switch is
printed beside it: `from_pretrained` in a running process, and a new process that does it.
"""

import argparse
import asyncio
import contextlib
import gc
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import torch
import transformers
from torch import Tensor

from benchmarks.markdown import save_page, table
from benchmarks.models import LoadedModel, load_demo
from benchmarks.report import circumstances, save
from gpu_worker.device.cpu import CpuDevice
from gpu_worker.execution.executor import StepPart
from gpu_worker.execution.streaming import Stream
from gpu_worker.host_cache.mapping import map_blob
from gpu_worker.loader import Loader
from gpu_worker.memory.arena import ALIGN_BYTES
from gpu_worker.weights import ArenaWeights
from shared.catalogue import demo_models
from shared.config import load_config
from shared.ids import ModelName
from shared.units import format_size, parse_size

PROMPT_TOKENS: Final = 128
PLAIN_GOAL: Final = 1.15  # of the floor
NOTHING_GOAL_MS: Final = 5.0  # where no byte has to move
STREAM_GOAL: Final = 0.8  # of copy, then step


class WatchedWeights(ArenaWeights):
    """Says when a model is resident."""

    def __init__(self, region: Tensor) -> None:
        super().__init__(region)
        self._settled = asyncio.Event()

    def settle(self, model: ModelName) -> None:
        super().settle(model)
        self._settled.set()

    async def until_resident(self, model: ModelName) -> None:
        while not self.is_resident(model):
            self._settled.clear()
            await self._settled.wait()


class Bench:
    """One device with room for `num_models`, and the worker's loader on it."""

    def __init__(self, models: list[LoadedModel], num_models: int, link_bytes_per_s: float | None) -> None:
        self.models = {model.name: model for model in models}
        self.device = CpuDevice(unified=False, link_bytes_per_s=link_bytes_per_s)
        self.blobs = {model.name: map_blob(model.weights_file, model.blob_bytes) for model in models}
        largest = max(model.blob_bytes for model in models)
        places = largest if num_models == 1 else sum(model.blob_bytes + ALIGN_BYTES for model in models)
        self.weights = WatchedWeights(self.device.allocate(places + ALIGN_BYTES).zero_())
        self.turns = list(self.models)
        served = {name: _Served(model, self.weights) for name, model in self.models.items()}
        self.loader = Loader(self.device, self.weights, self, cast(Any, served), lambda: self.turns, self._on_device)

    async def blob(self, model: ModelName) -> Tensor:
        return self.blobs[model]

    async def _on_device(self, work: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(None, work)

    async def bring(self, model: ModelName) -> tuple[float, Stream | None]:
        """Milliseconds until the first operation may run."""
        started_at_s = time.perf_counter()
        arrival = await self.loader.bring(model)
        self.models[model].executor.bind(arrival.base)
        return (time.perf_counter() - started_at_s) * 1e3, arrival.stream


class _Served:
    """What the loader looks at."""

    running, waiting = (None,), ()

    def __init__(self, model: LoadedModel, weights: ArenaWeights) -> None:
        self.executor = model.executor
        self._name, self._weights = model.name, weights

    @property
    def is_resident(self) -> bool:
        return self._weights.is_resident(self._name)


def prompt(model: LoadedModel) -> list[StepPart]:
    return [StepPart(model.span(0, 0, PROMPT_TOKENS), list(range(100, 100 + PROMPT_TOKENS)), None)]


async def plain_and_floor(models: list[LoadedModel], repeats: int) -> dict[str, dict[str, list[float]]]:
    """In turns: the loader's copy of each model, and a bare copy of the same bytes to the same place."""
    bench = Bench(models, 1, None)
    times: dict[str, dict[str, list[float]]] = {model.name: {"plain": [], "floor": []} for model in models}
    for repeat in range(repeats + 1):
        for model in models:
            waited_ms, _ = await bench.bring(model.name)
            place = bench.weights.resident(model.name)
            assert place is not None
            started_at_s = time.perf_counter()
            await asyncio.get_running_loop().run_in_executor(None, _copy, place, bench.blobs[model.name])
            floor_ms = (time.perf_counter() - started_at_s) * 1e3
            if repeat:  # the first warms up
                times[model.name]["plain"].append(waited_ms)
                times[model.name]["floor"].append(floor_ms)
    return times


def _copy(destination: Tensor, source: Tensor) -> None:
    destination.copy_(source)


async def resident(models: list[LoadedModel], repeats: int) -> dict[str, list[float]]:
    bench = Bench(models, len(models), None)
    times: dict[str, list[float]] = {model.name: [] for model in models}
    for repeat in range(repeats + 1):
        for model in models:
            waited_ms, _ = await bench.bring(model.name)
            if repeat:
                times[model.name].append(waited_ms)
    return times


async def prefetched(models: list[LoadedModel], repeats: int, link: float) -> dict[str, list[float]]:
    """Brought in during the other model's turn, which is long enough."""
    bench = Bench(models, len(models), link)
    times: dict[str, list[float]] = {model.name: [] for model in models}
    for _ in range(repeats):
        for model, other in (models, models[::-1]):
            if bench.weights.is_resident(model.name):
                bench.weights.drop(model.name)
            await bench.bring(other.name)
            await bench.weights.until_resident(other.name)
            bench.loader.prefetch()
            await bench.weights.until_resident(model.name)
            waited_ms, _ = await bench.bring(model.name)
            times[model.name].append(waited_ms)
    return times


def unified(models: list[LoadedModel], repeats: int) -> dict[str, list[float]]:
    """Parameters point at another blob; nothing is copied."""
    blobs = {model.name: [map_blob(model.weights_file, model.blob_bytes) for _ in range(2)] for model in models}
    times: dict[str, list[float]] = {model.name: [] for model in models}
    for repeat in range(repeats + 1):
        for model in models:
            started_at_s = time.perf_counter()
            model.executor.bind(blobs[model.name][repeat % 2])
            if repeat > 1:
                times[model.name].append((time.perf_counter() - started_at_s) * 1e3)
    return times


async def from_disk(models: list[LoadedModel], repeats: int) -> dict[str, list[float]]:
    """The pages of the file are dropped first; then read, and copied to the device."""
    bench = Bench(models, 1, None)
    times: dict[str, list[float]] = {model.name: [] for model in models}
    for _ in range(repeats):
        for model in models:
            del bench.blobs[model.name]
            _drop_pages(model)
            started_at_s = time.perf_counter()
            bench.blobs[model.name] = await asyncio.to_thread(map_blob, model.weights_file, model.blob_bytes)
            await bench.bring(model.name)
            times[model.name].append((time.perf_counter() - started_at_s) * 1e3)
    return times


def _drop_pages(model: LoadedModel) -> None:
    """Raises RuntimeError where the kernel keeps them: somebody maps the file."""
    model.executor.release()
    gc.collect()  # earlier benches, whose mappings hold the pages
    descriptor = os.open(model.weights_file, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        for offset in range(0, model.blob_bytes, model.blob_bytes // 8):
            with contextlib.suppress(BlockingIOError):
                os.preadv(descriptor, [bytearray(1)], offset, os.RWF_NOWAIT)  # only what is in memory
                raise RuntimeError(f"pages of {model.weights_file} stay in memory")
    finally:
        os.close(descriptor)


async def first_step(models: list[LoadedModel], repeats: int, link: float) -> dict[str, dict[str, list[float]]]:
    """Milliseconds from the decision to the end of a first step, and of its parts."""
    bench = Bench(models, 1, link)
    times: dict[str, dict[str, list[float]]] = {
        m.name: {"streamed": [], "plain": [], "copy": [], "step": []} for m in models
    }
    run: Callable[..., Awaitable[Any]] = asyncio.to_thread
    for repeat in range(2 * (repeats + 1)):
        for model in models:
            started_at_s = time.perf_counter()
            _, stream = await bench.bring(model.name)
            assert stream is not None
            if repeat % 2:
                await run(model.executor.step, prompt(model), stream)
                streamed_ms = (time.perf_counter() - started_at_s) * 1e3
            else:
                await run(stream.transfer.wait)
                copied_at_s = time.perf_counter()
                await run(model.executor.step, prompt(model))
                ended_at_s = time.perf_counter()
            if repeat > 1 and repeat % 2:
                times[model.name]["streamed"].append(streamed_ms)
            elif repeat > 1:
                times[model.name]["plain"].append((ended_at_s - started_at_s) * 1e3)
                times[model.name]["copy"].append((copied_at_s - started_at_s) * 1e3)
                times[model.name]["step"].append((ended_at_s - copied_at_s) * 1e3)
            await bench.weights.until_resident(model.name)
    return times


def reloaded(models: list[LoadedModel], repeats: int) -> dict[str, dict[str, list[float]]]:
    """Milliseconds of what a switch is where nothing is kept: until a model could run, files in the page cache."""
    folders = {source.name: source.path for source in demo_models(load_config().cache_dir)}
    times: dict[str, dict[str, list[float]]] = {
        model.name: {"from_pretrained": [], "new process": []} for model in models
    }
    for _ in range(repeats):
        for model in models:
            load = f"transformers.AutoModelForCausalLM.from_pretrained({folders[model.name]!r}, dtype='bfloat16')"
            started_at_s = time.perf_counter()
            transformers.AutoModelForCausalLM.from_pretrained(folders[model.name], dtype="bfloat16")
            loaded_at_s = time.perf_counter()
            subprocess.run([sys.executable, "-c", f"import transformers; {load}"], check=True, capture_output=True)
            times[model.name]["from_pretrained"].append((loaded_at_s - started_at_s) * 1e3)
            times[model.name]["new process"].append((time.perf_counter() - loaded_at_s) * 1e3)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs=2, default=["smollm2-135m", "gemma3-270m"])
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--link-bandwidth", default="2GiB/s")
    options = parser.parse_args()
    link = parse_size(options.link_bandwidth.removesuffix("/s"))
    print(circumstances())
    transformers.utils.logging.disable_progress_bar()
    models = [load_demo(name, "bfloat16", 1, PROMPT_TOKENS) for name in options.models]
    asyncio.run(run(models, options.repeats, link))


async def run(models: list[LoadedModel], repeats: int, link: int) -> None:
    results: dict[str, Any] = {"link_bytes_per_s": link}
    results["copied"] = await plain_and_floor(models, repeats)
    results["resident"] = await resident(models, repeats)
    results["prefetched"] = await prefetched(models, repeats, link)
    results["unified"] = unified(models, repeats)
    results["from disk"] = await from_disk(models, max(3, repeats // 10))
    results["reloaded"] = reloaded(models, max(3, repeats // 10))
    results["first step"] = await first_step(models, repeats, link)
    waits = waits_table(models, results)
    steps = steps_table(models, results["first step"])
    paragraphs = [
        f"Milliseconds from the decision to the first operation that may run, medians of {repeats}:",
        waits,
        "What a switch costs where nothing is kept, in milliseconds, and how much less the plain switch costs:",
        reload_table(models, results),
        "The published system reports 97 % less than restarting an engine (26.9 s to 0.8 s for 13B, its own devices).",
        f"A first step of {PROMPT_TOKENS} tokens over a link of {format_size(link)}/s, medians of {repeats}:",
        steps,
    ]
    print("\n\n".join(["", *paragraphs, ""]))
    print(save("switch", results))
    print(save_page("switch", "Switching models", paragraphs))


def waits_table(models: list[LoadedModel], results: dict[str, Any]) -> str:
    rows = []
    for model in models:
        copied = {way: statistics.median(times) for way, times in results["copied"][model.name].items()}
        ratio = copied["plain"] / copied["floor"]
        rows.append(
            [
                f"{model.name}, {model.blob_bytes / 1e6:.0f} MB",
                f"{copied['floor']:.1f}",
                f"{copied['plain']:.1f}",
                f"{ratio:.2f} ({'met' if ratio <= PLAIN_GOAL else 'missed'})",
                *(_nothing(results[way][model.name]) for way in ("prefetched", "resident", "unified")),
                f"{statistics.median(results['from disk'][model.name]):.0f}",
            ]
        )
    titles = ["model", "floor", "plain", f"ratio (goal {PLAIN_GOAL})"]
    return table(
        [*titles, *(f"{way} (goal {NOTHING_GOAL_MS:g})" for way in ("prefetched", "resident", "unified")), "from disk"],
        rows,
    )


def reload_table(models: list[LoadedModel], results: dict[str, Any]) -> str:
    rows = []
    for model in models:
        plain_ms = statistics.median(results["copied"][model.name]["plain"])
        for way, times in results["reloaded"][model.name].items():
            median_ms = statistics.median(times)
            rows.append([model.name, way, f"{median_ms:.0f}", f"{1 - plain_ms / median_ms:.1%}"])
    return table(["model", "way", "ms", "less"], rows)


def _nothing(times: list[float]) -> str:
    median = statistics.median(times)
    return f"{median:.2f} ({'met' if median < NOTHING_GOAL_MS else 'missed'})"


def steps_table(models: list[LoadedModel], times: dict[str, dict[str, list[float]]]) -> str:
    rows = []
    for model in models:
        medians = {part: statistics.median(values) for part, values in times[model.name].items()}
        ratio = medians["streamed"] / medians["plain"]
        best = max(medians["copy"], medians["step"]) / (medians["copy"] + medians["step"])
        rows.append(
            [
                model.name,
                *(f"{medians[part]:.0f}" for part in ("copy", "step", "plain", "streamed")),
                f"{ratio:.2f} ({'met' if ratio <= STREAM_GOAL else 'missed'})",
                f"{best:.2f}",
            ]
        )
    return table(
        ["model", "copy", "step", "copy, then step", "streamed", f"ratio (goal {STREAM_GOAL})", "max / sum"], rows
    )


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
