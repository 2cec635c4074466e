"""Attainment against load for each policy, simulated; in as many processes as there are cores."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from typing import Final

from benchmarks.goodput.progress import Progress
from shared.machine import num_cores
from simulator.goodput import Goodput, find_goodput, mean_share
from simulator.policies import num_workers
from simulator.run import Window
from simulator.setup import Setup

POLICIES: Final = ("deadline", "aegaeon", "aegaeon-split", "request-sjf", "request", "request-batch", "static")
_FRACTIONS: Final = (0.25, 0.5, 0.75, 0.9, 1.1, 1.25, 1.5)  # of the goodput: further points of a curve


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    setup: Setup
    times_longer: float = 1.0  # windows: where requests are long, few come
    on_worker: bool = True  # some points are tried there, too


@dataclass(frozen=True, slots=True)
class Effort:
    window: Window
    seeds: tuple[int, ...]
    precision: float


def cases(setup: Setup) -> list[Case]:
    """The usual one, more models, stricter service levels, and requests as long as the traces'.

    The published ratios of service level and step belong to requests of full length. With shorter ones, a whole request
    takes few of the steps that its first token may wait, so that policies which never preempt lose less.
    """
    twelve = replace(setup, num_models=12)
    undivided = replace(setup, divisor=1.0)
    return [
        Case(f"N = {setup.num_models}, k = {setup.num_places}", setup),
        Case(f"N = {twelve.num_models}, k = {twelve.num_places}", twelve),
        *(
            Case(
                f"N = {setup.num_models}, k = {setup.num_places}, service level x {scale:g}",
                replace(setup, slo_scale=scale),
            )
            for scale in (0.5, 0.3)
        ),
        Case(
            f"N = {setup.num_models}, k = {setup.num_places}, requests of full length", undivided, 3.0, on_worker=False
        ),
    ]


def simulate_all(cases: Sequence[Case], effort: Effort, progress: Progress) -> dict[tuple[str, str], Goodput]:
    """By case and policy. Requests per second are per worker, of all models; for `static`, of those that it serves."""
    jobs = [(case, policy) for case in cases for policy in POLICIES]
    found: dict[tuple[str, str], Goodput] = {}
    with ProcessPoolExecutor(num_cores()) as pool:
        pending = {}
        for case, policy in jobs:
            case_effort = replace(effort, window=effort.window.times_longer(case.times_longer))
            key = f"simulated {policy} {case.setup} {case_effort}"
            if (known := progress.get(key)) is not None:
                found[case.name, policy] = Goodput(known["requests_per_s"], [tuple(p) for p in known["points"]])
            else:
                pending[pool.submit(curve, policy, case.setup, case_effort)] = (key, case.name, policy)
        for done in as_completed(pending):
            key, case_name, policy = pending[done]
            result = found[case_name, policy] = done.result()
            progress.put(key, asdict(result))
            print(f"{len(found)}/{len(jobs)} {case_name}, {policy}: {result.requests_per_s:.1f} requests/s", flush=True)
    return found


def curve(policy: str, setup: Setup, effort: Effort) -> Goodput:
    setup = served_setup(policy, setup)
    found = find_goodput(policy, setup, effort.window, effort.seeds, precision=effort.precision)
    rates = {found.requests_per_s * fraction for fraction in _FRACTIONS} - {0.0}
    more = {rate: mean_share(policy, setup, rate, effort.window, effort.seeds) for rate in sorted(rates)}
    workers = num_workers(policy)
    points = sorted((rate / workers, share) for rate, share in (dict(found.points) | more).items())
    return Goodput(found.requests_per_s / workers, points)


def served_setup(policy: str, setup: Setup) -> Setup:
    """What `static` serves: the first k models, without the requests that it refuses."""
    return replace(setup, num_models=min(setup.num_models, setup.num_places)) if policy == "static" else setup
