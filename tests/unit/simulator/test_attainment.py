from shared.ids import ModelName, RequestId
from shared.slo import Slo
from simulator.attainment import attainment
from simulator.workload import Request

A, B = ModelName("a"), ModelName("b")


def request(name: str, model: ModelName, arrives_at_s: float, num_output_tokens: int) -> Request:
    return Request(RequestId(name), model, arrives_at_s, 10, num_output_tokens, Slo(ttft_s=1.0, tbt_s=0.5))


def test_each_token_has_its_own_due_time_and_what_never_came_is_late() -> None:
    requests = [request("one", A, 10.0, 4), request("two", B, 20.0, 6)]
    # "one" is due at 11, 11.5, 12, 12.5: its first comes late, the second catches up, the fourth never comes.
    result = attainment(requests, {RequestId("one"): [11.1, 11.2, 12.0]})
    assert result.share == 2 / 10
    assert result.by_model == {A: 2 / 4, B: 0.0}
    assert (result.num_requests, result.num_tokens) == (2, 10)
    assert abs(result.ttft_s["p50"] - 1.1) < 1e-9


def test_nothing_due_is_nothing_late() -> None:
    assert attainment([], {}).share == 1.0
