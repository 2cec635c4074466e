"""What the benchmark says: tables, and a chart per case."""

from collections.abc import Mapping, Sequence
from typing import Final

from benchmarks.goodput.confirm import Confirmed
from benchmarks.goodput.curves import POLICIES, Case, served_setup
from benchmarks.markdown import table
from benchmarks.plot import Line, Tick, chart
from simulator.goodput import GOAL, Goodput

OURS: Final = "deadline"
# Times the goodput of others that ours must have, where N = 8 and k = 3.
BARS: Final = {"request": 2.5, "request-sjf": 1.5, "aegaeon": 1.2, "aegaeon-split": 1.2}
_MAX_DIFFERENCE: Final = 0.05

Found = Mapping[tuple[str, str], Goodput]


def case_paragraphs(case: Case, found: Found, bars: Mapping[str, float]) -> list[str]:
    facts = "\n".join(f"- {name}: {fact}" for name, fact in case.setup.facts().items())
    ours = found[case.name, OURS].requests_per_s
    rows = []
    for policy in POLICIES:
        goodput = found[case.name, policy].requests_per_s
        ratio = ours / goodput if goodput else float("inf")
        bar = bars.get(policy)
        verdict = "" if bar is None else f"{bar:g} x: {'met' if ratio >= bar else 'missed'}"
        served = served_setup(policy, case.setup).num_models
        note = "" if served == case.setup.num_models else f"refuses {case.setup.num_models - served} models"
        rows.append([policy, f"{goodput:.1f}", "" if policy == OURS or note else f"{ratio:.2f}", verdict, note])
    header = ["policy", "requests/s per worker", f"{OURS} has times as much", "bar", ""]
    return [f"## {case.name}", facts, table(header, rows), _refused(case, found), f"![Curves]({chart_name(case)})"]


def _refused(case: Case, found: Found) -> str:
    num_models = case.setup.num_models
    num_served = served_setup("static", case.setup).num_models
    offered = found[case.name, "static"].requests_per_s * num_models / num_served
    return (
        f"`static` keeps {num_served} of {num_models} models and refuses the others. With the refused ones counted as "
        f"late, it has at most {num_served / num_models:.0%} on time at any load. Its figure is for its models alone; "
        f"at that point, all models together are asked {offered:.1f} times a second. `aegaeon-split` is one worker for "
        "prompts and one for decoding, each with memory for as many models."
    )


def case_chart(case: Case, found: Found) -> str:
    lines = [Line(policy, [(rate, share) for rate, share in found[case.name, policy].points]) for policy in POLICIES]
    ticks = [Tick(share, f"{share:.0%}") for share in (0.0, 0.25, 0.5, GOAL, 1.0)]
    return chart(f"Tokens on time, {case.name}", lines, ticks, "requests per second and worker")


def chart_name(case: Case) -> str:
    setup = case.setup
    return f"goodput-{setup.num_models}-models-slo-{setup.slo_scale:g}-lengths-{setup.divisor:g}.svg"


def confirmed_paragraphs(confirmed: Sequence[Confirmed]) -> list[str]:
    rows = [
        [
            one.point.case.name,
            one.point.policy,
            f"{one.point.requests_per_s:.1f}",
            f"{one.simulated:.1%}",
            f"{one.real:.1%}",
            f"{one.retold:.1%}",
            " to ".join(f"{share:.1%}" for share in one.retold_near),
            f"{one.difference * 100:+.1f} points ({'met' if abs(one.difference) <= _MAX_DIFFERENCE else 'missed'})",
        ]
        for one in confirmed
    ]
    header = [
        "case",
        "policy",
        "requests/s",
        "simulated",
        "real",
        "simulated at its costs",
        "at 5 % more or less load",
        f"bar: {_MAX_DIFFERENCE * 100:.0f} points",
    ]
    return [
        "## On a real worker",
        "The same requests in all three; on time is what a client on the bus got on time. Near the goodput, steps that "
        "take 5 % longer can cost 10 points, and a machine's pace wanders by as much. So each real run is also "
        "simulated at the costs that its own steps had, and that is what the bar is for.",
        table(header, rows),
    ]
