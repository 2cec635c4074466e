import pytest

from cli.load_test.plan import Planned
from cli.load_test.request import Measured
from cli.load_test.summary import Percentiles, percentiles, summary
from shared.slo import Slo


def measured(model: str, arrived_at_s: float, *token_at_s: float, error: str = "", asked: int = 4) -> Measured:
    ended_at_s = token_at_s[-1] if token_at_s else arrived_at_s
    planned = Planned(0, None, model, "x", asked)
    return Measured(planned, arrived_at_s, list(token_at_s), ended_at_s, 10, len(token_at_s), error)


def test_percentiles_are_values_that_so_many_do_not_exceed() -> None:
    assert percentiles([float(n) for n in range(1, 101)]) == Percentiles(50.0, 90.0, 99.0, 50.5)
    assert percentiles([3.0]) == Percentiles(3.0, 3.0, 3.0, 3.0)
    assert percentiles([]) is None


def test_each_model_and_all() -> None:
    found = summary(
        "http://a",
        [
            measured("a", 1.0, 1.5, 1.6, 1.7, 1.8),
            measured("a", 2.0, 2.5, 2.6, 3.7, 3.8),  # its third token is late, and what follows
            measured("b", 1.0, 2.0, error="the stream breaks off"),
            measured("b", 1.0, error="429 overloaded"),
        ],
        duration_s=4.0,
        slo=Slo(0.6, 0.2),
    )
    a, b = found.models
    assert (a.model, a.num_requests, a.num_failed, a.num_output_tokens, a.num_prompt_tokens) == ("a", 2, 0, 8, 20)
    assert a.ttft_s is not None and a.ttft_s.p99 == pytest.approx(0.5)
    assert a.tbt_s is not None and (a.tbt_s.p50, a.tbt_s.p99) == (pytest.approx(0.1), pytest.approx(1.1))
    assert a.e2e_s is not None and a.e2e_s.p99 == pytest.approx(1.8)
    assert a.attainment == pytest.approx(6 / 8)
    assert (b.attainment, b.num_failed, b.e2e_s, b.tbt_s) == (0.0, 2, None, None)
    assert b.errors == {"the stream breaks off": 1, "429 overloaded": 1}
    assert (found.all.num_requests, found.all.attainment) == (4, pytest.approx(6 / 16))
    assert (found.requests_per_s, found.output_tokens_per_s) == (0.5, 9 / 4)


def test_who_ends_early_by_itself_owes_nothing() -> None:
    found = summary("http://a", [measured("a", 0.0, 0.1, 0.2)], 1.0, Slo(0.5, 0.5))
    assert found.all.attainment == 1.0
