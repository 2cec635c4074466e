import random

from shared.slo import Slo
from simulator.azure_trace import CODE, CONV, draw_lengths
from simulator.workload import Workload, equal_shares, zipf_shares


def test_equal_seeds_give_equal_requests_and_another_rate_the_same_ones_at_other_times() -> None:
    slow, fast = (Workload(equal_shares(4), rate, Slo()) for rate in (5.0, 50.0))
    assert slow.requests(40.0, seed=1) == slow.requests(40.0, seed=1) != slow.requests(40.0, seed=2)
    for few, many in zip(slow.requests(40.0, 1), fast.requests(40.0, 1), strict=False):
        assert (few.model, few.num_prompt_tokens, few.num_output_tokens) == (
            many.model,
            many.num_prompt_tokens,
            many.num_output_tokens,
        )
        assert abs(few.arrives_at_s - 10 * many.arrives_at_s) < 1e-9


def test_rate_and_shares_are_what_was_asked_for() -> None:
    requests = Workload(zipf_shares(3, 1.0), 100.0, Slo()).requests(200.0, seed=0)
    assert abs(len(requests) / 20_000 - 1) < 0.03
    counts = [sum(request.model == name for request in requests) for name, _ in zipf_shares(3, 1.0)]
    expected = [len(requests) * weight / (1 + 1 / 2 + 1 / 3) for weight in (1, 1 / 2, 1 / 3)]
    assert all(abs(count / wanted - 1) < 0.05 for count, wanted in zip(counts, expected, strict=True))


def test_drawn_lengths_have_the_traces_means() -> None:
    """Means of the traces' own rows: 1,154.7 and 211.1 tokens of chats, 2,047.8 and 27.9 of code."""
    rng = random.Random(0)
    for trace, prompt, output in (("conv", 1154.7, 211.1), ("code", 2047.8, 27.9)):
        drawn = [draw_lengths(rng, trace, 1.0) for _ in range(40_000)]  # type: ignore[arg-type]
        assert abs(sum(p for p, _ in drawn) / len(drawn) / prompt - 1) < 0.02
        assert abs(sum(o for _, o in drawn) / len(drawn) / output - 1) < 0.1
    assert len(CONV.prompt.values) == len(CONV.output.values) == len(CODE.prompt.values) == len(CODE.output.values)
