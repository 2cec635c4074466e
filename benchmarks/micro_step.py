"""Where a step's time goes: linear layers, attention, sampling, the rest; beside the floor of reading the weights once.

python -m benchmarks.micro_step [--model smollm2-135m] [--batch 1 16] [--context 192]
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from benchmarks.models import LoadedModel, load_demo
from benchmarks.report import circumstances, save
from gpu_worker.device import cpu_attention
from gpu_worker.execution import executor as executor_module
from gpu_worker.execution.executor import StepPart
from gpu_worker.execution.sampling import SamplingRow
from shared.messages import Sampling


class Stopwatch:
    """Seconds by part, of one step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[part] += time.perf_counter() - start

        return wrapper

    @contextmanager
    def watching(self, module: nn.Module) -> Iterator[None]:
        """Wraps the parts of a step; costs about a microsecond a call."""
        linears = [m for m in module.modules() if isinstance(m, nn.Linear)]
        forwards = [m.forward for m in linears]
        attend, prepare = cpu_attention.CpuStepAttention.attend, cpu_attention.CpuKvMemory.prepare
        sample = executor_module.sample
        for linear in linears:
            linear.forward = self.timed("linear", linear.forward)  # type: ignore[method-assign]
        cpu_attention.CpuStepAttention.attend = self.timed("attention", attend)  # type: ignore[method-assign]
        cpu_attention.CpuKvMemory.prepare = self.timed("prepare", prepare)  # type: ignore[method-assign]
        executor_module.sample = self.timed("sampling", sample)
        try:
            yield
        finally:
            for linear, forward in zip(linears, forwards, strict=True):
                linear.forward = forward  # type: ignore[method-assign]
            cpu_attention.CpuStepAttention.attend = attend  # type: ignore[method-assign]
            cpu_attention.CpuKvMemory.prepare = prepare  # type: ignore[method-assign]
            executor_module.sample = sample


def read_bandwidth() -> float:
    """Bytes per second of a sum over 512 MiB, the best of five."""
    data = torch.ones(128 << 20)
    best = min(_seconds(data.sum) for _ in range(5))
    return data.nbytes / best


def _seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def decode_parts(model: LoadedModel, batch: int, context: int) -> list[StepPart]:
    row = SamplingRow(Sampling(max_tokens=1 << 30, seed=0, temperature=0.0), 0, frozenset(), model.no_counts)
    return [StepPart(model.span(i, context - 1, 1), [100 + i], row) for i in range(batch)]


def measure(model: LoadedModel, parts: list[StepPart], repeats: int) -> dict[str, float]:
    """Median milliseconds of the whole step unwatched, and of each part watched."""
    for _ in range(3):
        model.executor.step(parts)
    whole = sorted(_seconds(lambda: model.executor.step(parts)) for _ in range(repeats))
    samples: dict[str, list[float]] = defaultdict(list)
    for _ in range(repeats):
        watch = Stopwatch()
        with watch.watching(model.module):
            total = _seconds(lambda: model.executor.step(parts))
        watch.seconds["rest"] = total - sum(watch.seconds.values())
        for part, seconds in watch.seconds.items():
            samples[part].append(seconds)
    result = {part: sorted(values)[repeats // 2] * 1e3 for part, values in samples.items()}
    return {"step": whole[repeats // 2] * 1e3, "best step": whole[0] * 1e3, **result}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--context", type=int, default=192)
    parser.add_argument("--prefill", type=int, nargs="*", default=[128, 256])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    print(circumstances())
    bandwidth = read_bandwidth()
    model = load_demo(arguments.model, arguments.dtype, max(arguments.batch), max(arguments.context, 512))
    floor_ms = model.blob_bytes / bandwidth * 1e3
    print(
        f"read bandwidth {bandwidth / 1e9:.1f} GB/s, weights {model.blob_bytes / 1e6:.0f} MB: floor {floor_ms:.1f} ms"
    )
    results: dict[str, Any] = {"bandwidth": bandwidth, "floor_ms": floor_ms}
    for batch in arguments.batch:
        results[f"decode {batch}"] = measure(model, decode_parts(model, batch, arguments.context), arguments.repeats)
    for num_tokens in arguments.prefill:
        part = StepPart(model.span(0, 0, num_tokens), list(range(100, 100 + num_tokens)), None)
        results[f"prefill {num_tokens}"] = measure(model, [part], max(3, arguments.repeats // 4))
    for name, parts in results.items():
        if isinstance(parts, dict):
            print(f"{name:12}", "  ".join(f"{part} {ms:.1f}" for part, ms in parts.items()), "ms")
    print(save(f"micro_step-{arguments.model}", results))


if __name__ == "__main__":
    main()
