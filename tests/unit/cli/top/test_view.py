from cli.top.feed import Lost, Turns
from cli.top.view import SPANS_S, View
from tests.unit.cli.top.states import model, request, state, turn, worker


def test_lanes_are_those_of_workers_that_are_there() -> None:
    view = View()
    view.apply(state(workers=[worker("w"), worker("x")]), 5.0)
    for name in ("w", "x"):
        view.apply(Turns(name, [turn("a", 99.0, (0.0, 1.0))]), 5.1)
    assert set(view.lanes) == {"w", "x"}
    view.apply(state(100.5, workers=[worker("x")]), 5.5)
    assert set(view.lanes) == {"x"}
    view.apply(state(1.0, workers=[worker("x")], gateway="gateway-2"), 6.0)  # which counts from another instant
    assert view.lanes == {}


def test_the_gateways_clock_goes_on_between_states() -> None:
    view = View()
    view.apply(state(100.0), 5.0)
    assert view.gateway_now_s(5.4) == 100.4


def test_what_was_lost_adds_up() -> None:
    view = View()
    view.apply(Lost(2), 0.0)
    view.apply(Lost(3), 0.0)
    assert view.num_lost == 5


def test_models_and_requests_are_sorted_as_is_wanted() -> None:
    view = View()
    models = [
        model("b", tokens_per_s=5.0, attainment=0.9),
        model("a", waiting=3),
        model("c", tokens_per_s=9.0, attainment=0.5),
    ]
    requests = [request("new", age_s=1.0, num_output_tokens=50), request("old", age_s=9.0, model="b")]
    view.apply(state(models=models, requests=requests), 0.0)
    orders = []
    for _ in range(5):
        orders.append((view.model_order, "".join(shown.model for shown in view.models())))
        view.next_model_order()
    assert orders == [("name", "abc"), ("tokens/s", "cba"), ("waiting", "abc"), ("attainment", "cba"), ("name", "abc")]
    assert [shown.id for shown in view.requests()] == ["old", "new"]
    view.next_request_order()
    assert [shown.id for shown in view.requests()] == ["new", "old"]
    view.next_request_order()
    assert (view.request_order, [shown.id for shown in view.requests()]) == ("tokens", ["new", "old"])


def test_zooming_ends_at_both_ends() -> None:
    view = View()
    for _ in range(9):
        view.zoom(1)
    assert view.span_s == SPANS_S[0]
    for _ in range(9):
        view.zoom(-1)
    assert view.span_s == SPANS_S[-1]
