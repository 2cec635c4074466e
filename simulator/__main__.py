"""python -m simulator --policy round-robin --models 8 --places 3 --rate 40

One worker on a virtual clock under Poisson arrivals; prints how the requests fared and what the worker did. With
`--goodput` it looks for the highest rate at which 90 % of the tokens are on time. Service levels are given in steps at
batch 1. `--costs` takes a file that a worker left beside a model's weights, costs-*.json.
"""

import argparse
import time
from pathlib import Path

from gpu_worker.cost_file import load_costs
from simulator.goodput import find_goodput
from simulator.policies import NAMES, simulate_policy
from simulator.run import Outcome, Window
from simulator.setup import DEFAULT_COSTS, Setup


def describe(outcome: Outcome) -> str:
    result = outcome.attainment
    ttft = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in result.ttft_s.items())
    lines = [
        f"attainment {result.share:.1%} of {result.num_tokens} tokens of {result.num_requests} requests; TTFT {ttft}",
        "  ".join(f"{model} {share:.0%}" for model, share in result.by_model.items()),
    ]
    for done in outcome.activities:
        switches = ", ".join(f"{count} {kind}" for kind, count in done.switches.most_common())
        num_steps, seconds = max(1, done.num_steps), max(done.ended_at_s, 1e-9)
        lines += [
            f"{done.num_steps} steps of {done.num_step_tokens / num_steps:.1f} tokens "
            f"({done.num_decoded / num_steps:.1f} decoding); device busy {done.busy_s / seconds:.0%}, "
            f"waiting for weights {done.waited_s / seconds:.0%}; link busy {done.link_busy_s / seconds:.0%}",
            f"{done.num_loads} loads, {done.num_preemptions} preemptions; switches: {switches}",
        ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", choices=NAMES, default="round-robin")
    parser.add_argument("--models", type=int, default=8)
    parser.add_argument("--places", type=int, default=3, help="models whose weights fit the device")
    parser.add_argument("--rate", type=float, default=40.0, help="requests a second, of all models")
    parser.add_argument("--goodput", action="store_true", help="search instead, from the rate on")
    parser.add_argument("--skew", type=float, default=0.0, help="exponent of Zipf's law over the models; 0: equal")
    parser.add_argument("--trace", choices=("conv", "code", "both"), default="both")
    parser.add_argument("--switch-steps", type=float, default=20.0, help="time of a copy of weights")
    parser.add_argument("--ttft-steps", type=float, default=1200.0)
    parser.add_argument("--tbt-steps", type=float, default=12.0)
    parser.add_argument("--slo", type=float, default=1.0, help="scales both")
    parser.add_argument("--no-copy-engine", action="store_true", help="a copy of weights takes the device")
    parser.add_argument("--costs", type=Path, help="of a model's steps; default: pretended ones")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--warm-up", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    costs = DEFAULT_COSTS if options.costs is None else load_costs(options.costs)
    if costs is None:
        parser.error(f"{options.costs} has no costs")
    setup = Setup(
        costs,
        options.models,
        options.places,
        switch_steps=options.switch_steps,
        ttft_steps=options.ttft_steps,
        tbt_steps=options.tbt_steps,
        slo_scale=options.slo,
        skew=options.skew,
        trace=options.trace,
        has_copy_engine=not options.no_copy_engine,
    )
    window = Window(options.warm_up, options.seconds)
    for name, fact in setup.facts().items():
        print(f"{name}: {fact}")
    began_s = time.monotonic()
    if options.goodput:
        found = find_goodput(options.policy, setup, window, options.seeds, options.rate)
        for rate, share in found.points:
            print(f"{rate:7.2f} requests/s: {share:.1%} on time")
        print(f"goodput {found.requests_per_s:.1f} requests/s")
    else:
        for seed in options.seeds:
            print(describe(simulate_policy(options.policy, setup, options.rate, window, seed)))
    print(f"in {time.monotonic() - began_s:.1f} s")


if __name__ == "__main__":
    main()
