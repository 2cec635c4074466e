"""Attainment against load for each policy, and the load at which 90 % of the tokens are on time.

python -m benchmarks.goodput [--quick] [--part all|simulated|real] [--costs costs.json] [--work DIR]

Copies of a small random decoder with weights of their own share one CPU worker that has memory for some of them, over
an emulated link. First a real worker is measured under such load; the costs of its steps (or those in a file) go into
the simulator, which runs the worker's own policies on a virtual clock and says at which load 90 % of the tokens are on
time. Then a real worker gets the very same requests at a few of these loads. An interrupted run goes on where it was.
"""

import argparse
import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Final

from benchmarks.goodput.calibrate import Calibration, calibrate, setup_of
from benchmarks.goodput.confirm import confirm, points
from benchmarks.goodput.copies import make_copies
from benchmarks.goodput.curves import Effort, cases, simulate_all
from benchmarks.goodput.page import BARS, OURS, case_chart, case_paragraphs, chart_name, confirmed_paragraphs
from benchmarks.goodput.progress import Progress
from benchmarks.markdown import save_page
from benchmarks.report import circumstances, save, save_text
from gpu_worker.scheduling.costs import StepCosts
from simulator.run import Window

_SWITCH_INTERVAL_S: Final = 0.0002  # as a worker's process has it
_NUM_COPIES: Final = 12
_KV_BYTES: Final = 512 << 20
_LEADS: Final = dict.fromkeys(BARS, 1.0)
_MAX_STEP_S: Final = 0.005
_SEED: Final = 100  # of the real runs; the curves have others


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short windows, one seed, nothing saved: for a first look")
    parser.add_argument("--part", choices=("all", "simulated", "real"), default="all")
    parser.add_argument("--costs", type=Path, help="a calibration's JSON, instead of measuring")
    parser.add_argument("--switch-steps", type=float, default=20.0, help="copying a model's weights, in steps")
    parser.add_argument("--threads", type=int, default=1, help="of the steps; the link and the client need a core, too")
    parser.add_argument(
        "--work", type=Path, default=Path("~/.cache/kottos/benchmarks/goodput"), help="for what is kept"
    )
    options = parser.parse_args()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    print(circumstances())
    work = options.work.expanduser()
    sources = make_copies(work / "models", _NUM_COPIES)
    measured = read_costs(options.costs or work / "costs.json")
    if measured is None:
        seconds = 3.0 if options.quick else 10.0
        measured = asyncio.run(
            calibrate(sources, work / "cache", _KV_BYTES, seconds, options.threads, options.switch_steps)
        )
        (work / "costs.json").write_text(json.dumps(asdict(measured)))
    setup = setup_of(measured, _KV_BYTES, options.switch_steps)
    print(f"{measured}\nstep at batch 1: {setup.step_s * 1e3:.2f} ms (at most {_MAX_STEP_S * 1e3:g} is asked for)")
    effort = Effort(Window(5.0, 15.0), (0,), 0.1) if options.quick else Effort(Window(10.0, 40.0), (0, 1), 0.03)
    progress = Progress(work / "progress.jsonl")
    all_cases = cases(setup)
    found = simulate_all(all_cases, effort, progress)
    paragraphs: list[str] = []
    for case in all_cases:
        bars = BARS if case.setup == setup else _LEADS
        paragraphs += case_paragraphs(case, found, bars)
        if not options.quick:
            save_text(chart_name(case), case_chart(case, found))
    results: dict[str, object] = {
        "calibration": asdict(measured),
        "simulated": [
            {"case": name, "policy": policy, "goodput": one.requests_per_s, "points": one.points}
            for (name, policy), one in found.items()
        ],
    }
    if options.part != "simulated":
        chosen = points(all_cases, found)
        if options.quick:
            chosen = [point for point in chosen if point.policy == OURS][:1]
        window = Window(5.0, 15.0) if options.quick else Window(8.0, 45.0)
        confirmed = asyncio.run(confirm(chosen, window, _SEED, sources, work / "cache", options.threads, progress))
        paragraphs += confirmed_paragraphs(confirmed)
        results["real"] = [
            {
                "case": one.point.case.name,
                "policy": one.point.policy,
                "requests_per_s": one.point.requests_per_s,
                "simulated": one.simulated,
                "real": one.real,
                "simulated_at_its_costs": one.retold,
                "simulated_at_its_costs_near": one.retold_near,
            }
            for one in confirmed
        ]
    print("\n\n".join(["", *paragraphs, ""]))
    if not options.quick:
        print(save("goodput", results))
        print(save_page("goodput", "Goodput: policies on one worker", paragraphs))


def read_costs(path: Path) -> Calibration | None:
    if not path.exists():
        return None
    fields = json.loads(path.read_text())
    return Calibration(StepCosts(**fields.pop("costs")), **fields)


if __name__ == "__main__":
    main()
