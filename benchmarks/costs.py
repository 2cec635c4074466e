"""What steps take beside what the worker expects of them: as guessed, after probes, and after learning from steps.

python -m benchmarks.costs [--model tiny smollm2-135m gemma3-270m] [--rounds 12] [--threads N]

Each round runs every shape of a grid once, in an order of its own. The rounds are taken in turns: of every two, one
teaches, and the other's medians are what predictions are judged by.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch

from benchmarks.markdown import save_page, table
from benchmarks.models import LoadedModel, load_demo, load_imported
from benchmarks.report import circumstances, save
from benchmarks.tiny_models import CONTEXT_LENGTH, make_tiny_model
from gpu_worker.calibration import teach
from gpu_worker.execution.executor import StepPart
from gpu_worker.execution.probe import probe
from gpu_worker.execution.sampling import SamplingRow
from gpu_worker.importer.job import run_import
from gpu_worker.scheduling.costs import StepShape, guess, step_shape
from gpu_worker.scheduling.measured_costs import MeasuredCosts, SwitchCosts
from gpu_worker.scheduling.probes import LONGEST_TOKENS, NUM_SEQUENCES, OTHER_TOKENS, plan_probes
from gpu_worker.scheduling.step_estimator import StepEstimator
from shared.catalogue import open_catalogue
from shared.config import Config, ModelSource
from shared.ids import ModelName
from shared.messages import Sampling

TINY: Final = "tiny"
MAX_BATCH: Final = 16
MAX_STEP_TOKENS: Final = 256  # worker.max_step_tokens
NUM_WARM_ROUNDS: Final = 1

Part = tuple[int, int]  # new tokens, tokens before them
GRID: Final[tuple[tuple[Part, ...], ...]] = (
    *(((1, context),) * batch for batch in (1, 2, 4, 8, MAX_BATCH) for context in (48, 192, 448)),
    *(((tokens, 0),) for tokens in (16, 64, 128, 256)),
    ((64, 192),),
    ((128, 320),),
    ((64, 0),) * 4,
    (*((1, 192),) * 4, (64, 0)),
    (*((1, 192),) * 8, (128, 0)),
)


@dataclass(frozen=True, slots=True)
class Row:
    shape: StepShape
    measured_s: float  # median
    guessed_s: float
    probed_s: float
    learnt_s: float


@dataclass(frozen=True, slots=True)
class Errors:
    """Relative, over the grid."""

    median: float
    worst: float


@dataclass(frozen=True, slots=True)
class Result:
    model: str
    num_probes: int
    probes_s: float  # all of them together
    num_lessons: int
    rows: list[Row]

    def errors(self, predicted_s: Callable[[Row], float]) -> Errors:
        errors = [abs(predicted_s(row) / row.measured_s - 1) for row in self.rows]
        return Errors(statistics.median(errors), max(errors))


def load(name: str, dtype: str, folder: Path) -> LoadedModel:
    if name != TINY:
        return load_demo(name, dtype, MAX_BATCH, CONTEXT_LENGTH)
    make_tiny_model("llama", folder / name)
    config = Config(models=(ModelSource(name, str(folder / name)),), cache_dir=folder / "cache")
    entry = open_catalogue(config)[ModelName(name)]
    entry.folder.parent.mkdir(parents=True)
    run_import(entry, dtype, probe, lambda progress: None)
    return load_imported(entry, dtype, MAX_BATCH, CONTEXT_LENGTH)


def timed_step(model: LoadedModel, parts: Sequence[tuple[int, Part]]) -> float:
    """parts: of which sequences. Each gets a token."""
    row = SamplingRow(Sampling(max_tokens=1, seed=0, temperature=0.0), 0, frozenset(), model.no_counts)
    step_parts = [
        StepPart(model.span(sequence, start, num_new), [100 + i % 100 for i in range(num_new)], row)
        for sequence, (num_new, start) in parts
    ]
    began_at_s = time.perf_counter()
    model.executor.step(step_parts)
    return time.perf_counter() - began_at_s


def run_probes(model: LoadedModel, estimator: StepEstimator) -> tuple[int, float]:
    """As gpu_worker/calibration.py does -> number of steps, seconds together."""
    plan = plan_probes([LONGEST_TOKENS] + [OTHER_TOKENS] * (NUM_SEQUENCES - 1), MAX_STEP_TOKENS)
    took_s, seen = 0.0, dict[int, tuple[StepShape, float]]()
    for i, step in [*enumerate(plan)] * 2:
        if i == 0:
            num_tokens = [0] * NUM_SEQUENCES
        parts = [(part.sequence, (part.num_new, num_tokens[part.sequence])) for part in step]
        for part in step:
            num_tokens[part.sequence] += part.num_new
        seconds = timed_step(model, parts)
        took_s += seconds
        shape = step_shape(part for _, part in parts)
        seen[i] = (shape, min(seconds, seen[i][1] if i in seen else seconds))
    teach(MeasuredCosts(estimator, SwitchCosts(None, unified=True), model.blob_bytes), list(seen.values()))
    return 2 * len(plan), took_s


def measure(name: str, dtype: str, num_rounds: int, folder: Path) -> Result:
    model = load(name, dtype, folder)
    guessed = guess(model.blob_bytes)
    estimator = StepEstimator(guessed)
    num_probes, probes_s = run_probes(model, estimator)
    probed = estimator.costs
    seconds: dict[int, list[float]] = {i: [] for i in range(len(GRID))}
    num_lessons, rng = 0, random.Random(0)
    for round_number in range(-NUM_WARM_ROUNDS, 2 * num_rounds):
        for i in rng.sample(range(len(GRID)), len(GRID)):
            took_s = timed_step(model, list(enumerate(GRID[i])))
            if round_number >= 0 and round_number % 2:
                seconds[i].append(took_s)
            elif round_number >= 0:
                estimator.observe(step_shape(GRID[i]), took_s)
                num_lessons += 1
    rows = []
    for i, parts in enumerate(GRID):
        shape = step_shape(parts)
        rows.append(
            Row(
                shape,
                statistics.median(seconds[i]),
                guessed.step_s(shape),
                probed.step_s(shape),
                estimator.step_s(shape),
            )
        )
    return Result(name, num_probes, probes_s, num_lessons, rows)


def page(results: Sequence[Result]) -> list[str]:
    summary = []
    for result in results:
        summary.append([result.model, f"{result.num_probes} in {result.probes_s:.2f} s", str(result.num_lessons)])
        for predicted_s in (_guessed_s, _probed_s, _learnt_s):
            errors = result.errors(predicted_s)
            summary[-1].append(f"{errors.median:.1%} / {errors.worst:.1%}")
    headers = ["model", "probes", "steps learnt from", "guess", "after probes", "after learning"]
    paragraphs = ["Relative errors over the grid, median / worst:", table(headers, summary)]
    for result in results:
        rows = [
            [
                f"{row.shape.num_decoding} of {row.shape.num_context_tokens}",
                str(row.shape.num_prefill_tokens),
                *(f"{s * 1e3:.2f}" for s in (row.measured_s, row.guessed_s, row.probed_s, row.learnt_s)),
            ]
            for row in result.rows
        ]
        paragraphs += [
            f"{result.model}, milliseconds a step:",
            table(["decoding, context", "prompt tokens", "measured", "guess", "after probes", "after learning"], rows),
        ]
    return paragraphs


def _guessed_s(row: Row) -> float:
    return row.guessed_s


def _probed_s(row: Row) -> float:
    return row.probed_s


def _learnt_s(row: Row) -> float:
    return row.learnt_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=[TINY, "smollm2-135m", "gemma3-270m"])
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--rounds", type=int, default=12, help="that teach, and as many that judge")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--dry", action="store_true", help="saves nothing")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    print(circumstances())
    with tempfile.TemporaryDirectory() as folder:
        results = [measure(name, arguments.dtype, arguments.rounds, Path(folder)) for name in arguments.model]
    paragraphs = page(results)
    print("\n\n".join(paragraphs))
    if not arguments.dry:
        print(save("costs", [asdict(result) for result in results]))
        print(save_page("costs", "Costs of steps, expected and measured", paragraphs))


if __name__ == "__main__":
    main()
