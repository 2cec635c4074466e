"""python -m simulator --policy round-robin --models 8 --places 3 --rate 40

One worker on a virtual clock under Poisson arrivals; prints how the requests fared and what the worker did. Times
follow from the batch-1 step: first tokens are due after `--ttft-steps` of it, the others every `--tbt-steps`.
"""

import argparse
import time

from gpu_worker.scheduling.costs import StepCosts, StepShape
from gpu_worker.scheduling.policy import Limits
from gpu_worker.scheduling.round_robin import RoundRobin
from shared.slo import Slo
from simulator.model import ModelSpec
from simulator.run import Outcome, Window, simulate
from simulator.worker import WorkerSpec
from simulator.workload import Workload, zipf_shares

COSTS = StepCosts(base_s=4e-3, prefill_s=30e-6, pair_s=0.0, decode_s=60e-6, context_s=0.2e-6)
POLICIES = {"round-robin": RoundRobin}


def describe(outcome: Outcome) -> str:
    result = outcome.attainment
    ttft = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in result.ttft_s.items())
    lines = [
        f"attainment {result.share:.1%} of {result.num_tokens} tokens of {result.num_requests} requests; TTFT {ttft}",
        "  ".join(f"{model} {share:.0%}" for model, share in result.by_model.items()),
    ]
    for done in outcome.activities:
        switches = ", ".join(f"{count} {kind}" for kind, count in done.switches.most_common())
        lines.append(
            f"{done.num_steps} steps of {done.num_step_tokens / max(1, done.num_steps):.1f} tokens "
            f"({done.num_decoded / max(1, done.num_steps):.1f} decoding), device busy "
            f"{done.busy_s / done.ended_at_s:.0%}, waited for weights {done.waited_s / done.ended_at_s:.0%}, "
            f"link busy {done.link_busy_s / done.ended_at_s:.0%}, "
            f"{done.num_loads} loads, {done.num_preemptions} preemptions; switches: {switches}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", choices=POLICIES, default="round-robin")
    parser.add_argument("--models", type=int, default=8)
    parser.add_argument("--places", type=int, default=3, help="models whose weights fit the device")
    parser.add_argument("--rate", type=float, default=40.0, help="requests a second, of all models")
    parser.add_argument("--skew", type=float, default=0.0, help="exponent of Zipf's law over the models; 0: equal")
    parser.add_argument("--trace", choices=("conv", "code", "both"), default="both")
    parser.add_argument("--switch-steps", type=float, default=20.0, help="time of a copy of weights")
    parser.add_argument("--ttft-steps", type=float, default=1200.0)
    parser.add_argument("--tbt-steps", type=float, default=12.0)
    parser.add_argument("--slo", type=float, default=1.0, help="scales both")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--warm-up", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    step_s = COSTS.step_s(StepShape(1, 100))
    blob_bytes = 20 << 20
    shares = zipf_shares(options.models, options.skew)
    spec = WorkerSpec(
        models=[ModelSpec(name, COSTS, blob_bytes, kv_token_bytes=8192) for name, _ in shares],
        num_places=options.places,
        link_bytes_per_s=blob_bytes / (options.switch_steps * step_s),
        limits=Limits(max_step_tokens=256, max_running=256, turn_steps=8, block_tokens=16),
    )
    slo = Slo(options.slo * options.ttft_steps * step_s, options.slo * options.tbt_steps * step_s)
    workload = Workload(shares, options.rate, slo, options.trace)
    began_s = time.monotonic()
    make = POLICIES[options.policy]
    outcome = simulate(spec, lambda _: make(), workload, Window(options.warm_up, options.seconds), options.seed)
    print(f"step {step_s * 1e3:.2f} ms, TTFT {slo.ttft_s:.2f} s, TBT {slo.tbt_s * 1e3:.0f} ms")
    print(describe(outcome))
    print(f"simulated {outcome.activities[0].ended_at_s:.0f} s in {time.monotonic() - began_s:.1f} s")


if __name__ == "__main__":
    main()
