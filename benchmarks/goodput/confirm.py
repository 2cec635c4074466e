"""A few points of the curves on a real worker, each beside the simulation of the very same requests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import msgspec

from benchmarks.goodput.calibrate import Calibration, fitted, watching
from benchmarks.goodput.curves import Case
from benchmarks.goodput.progress import Progress
from benchmarks.goodput.real_run import measure
from shared.config import ModelSource, PolicyName
from simulator.goodput import Goodput
from simulator.policies import simulate_policy
from simulator.run import Window

_AROUND: Final = (0.85, 1.0, 1.15)  # of the goodput
_NEAR: Final = (1.05, 0.95)  # of a point's load: what a small error of the costs would make of it
_POLICIES: Final = ("deadline", "aegaeon", "request-sjf", "request")
_IN_OTHER_CASES: Final = ("deadline", "aegaeon")


@dataclass(frozen=True, slots=True)
class Point:
    case: Case
    policy: str
    requests_per_s: float


@dataclass(frozen=True, slots=True)
class Confirmed:
    point: Point
    simulated: float  # at the costs measured before all runs
    real: float
    retold: float  # simulated at the costs that the real run's own steps had: machines change by the minute
    retold_near: tuple[float, ...]  # the same at a little more and a little less load

    @property
    def difference(self) -> float:
        return self.real - self.retold


def points(cases: Sequence[Case], found: Mapping[tuple[str, str], Goodput]) -> list[Point]:
    """Each policy's goodput and 15 % to either side; in all cases but the first, two policies' goodput."""
    usual, *others = cases
    wanted = [(usual, policy, factor) for policy in _POLICIES for factor in _AROUND]
    wanted += [(case, policy, 1.0) for case in others if case.on_worker for policy in _IN_OTHER_CASES]
    rates = ((case, policy, factor * found[case.name, policy].requests_per_s) for case, policy, factor in wanted)
    return [Point(case, policy, rate) for case, policy, rate in rates if rate > 0]


async def confirm(
    points: Sequence[Point],
    window: Window,
    seed: int,
    sources: Sequence[ModelSource],
    cache_dir: Path,
    num_threads: int,
    progress: Progress,
) -> list[Confirmed]:
    confirmed: list[Confirmed] = []
    for number, point in enumerate(points, start=1):
        setup, rate = point.case.setup, point.requests_per_s
        simulated = simulate_policy(point.policy, setup, rate, window, seed).attainment
        key = f"real {point.policy} {setup} {rate:.6g} {window} {seed} {num_threads}"
        if (known := progress.get(key)) is None:
            models = sources[: setup.num_models]
            policy = cast(PolicyName, point.policy)
            with watching() as steps:
                result = await measure(setup, policy, rate, window, seed, models, cache_dir, num_threads)
            known = {"real": msgspec.to_builtins(result), "costs": msgspec.to_builtins(fitted(steps, setup.blob_bytes))}
            progress.put(key, known)
        seen = msgspec.convert(known["costs"], Calibration)
        then = setup.at_costs(seen.costs, seen.loop_s)
        retold, *near = (
            simulate_policy(point.policy, then, factor * rate, window, seed).attainment.share
            for factor in (1.0, *_NEAR)
        )
        one = Confirmed(point, simulated.share, known["real"]["share"], retold, tuple(near))
        confirmed.append(one)
        print(
            f"{number}/{len(points)} {point.case.name}, {point.policy} at {rate:.1f} requests/s: "
            f"simulated {one.simulated:.1%}, real {one.real:.1%}, simulated at its costs {one.retold:.1%}",
            flush=True,
        )
    return confirmed
