from msgspec.structs import replace

from gateway.fleet.cluster import FRESH_ROUTER_S, FRESH_WORKER_S, Cluster
from shared.ids import ModelName, WorkerId
from shared.messages import ModelLoad, RouterBeat
from tests.unit.gateway.builders import MODEL, ROUTER, WORKER, beat

OTHER = WorkerId("worker-1")


def cluster() -> Cluster:
    return Cluster(worker_dead_s=10.0)


def test_the_best_state_counts() -> None:
    seen = cluster()
    assert seen.model_state(MODEL) == "loading"
    seen.on_worker_beat(beat(models=(ModelLoad(MODEL, "failed", reason="no"),)), 0.0)
    assert (seen.model_state(MODEL), seen.failure(MODEL)) == ("failed", "no")
    seen.on_worker_beat(beat(worker=OTHER, models=(ModelLoad(MODEL, "cached"),)), 0.0)
    assert seen.model_state(MODEL) == "cached"
    seen.on_worker_beat(beat(models=(ModelLoad(MODEL, "resident"),)), 0.0)
    assert seen.model_state(MODEL) == "resident"
    assert seen.model_state(ModelName("another")) == "loading"


def test_the_worker_with_most_room_decides_how_long_a_sequence_may_be() -> None:
    seen = cluster()
    assert seen.max_sequence_tokens(MODEL) == 0
    seen.on_worker_beat(beat(models=(ModelLoad(MODEL, "cached", max_sequence_tokens=100),)), 0.0)
    seen.on_worker_beat(beat(worker=OTHER, models=(ModelLoad(MODEL, "cached", max_sequence_tokens=300),)), 0.0)
    assert seen.max_sequence_tokens(MODEL) == 300


def test_who_says_where_its_metrics_are_is_listed() -> None:
    seen = cluster()
    seen.on_router_beat(RouterBeat(ROUTER), 0.0)
    seen.on_worker_beat(beat(), 0.0)
    assert seen.metrics_addresses() == []
    seen.on_router_beat(RouterBeat(ROUTER, "here:1"), 0.0)
    seen.on_worker_beat(replace(beat(worker=OTHER), metrics_address="here:2"), 0.0)
    assert seen.metrics_addresses() == [("worker", OTHER, "here:2"), ("router", "router", "here:1")]


def test_the_farthest_worker_tells_the_progress() -> None:
    seen = cluster()
    seen.on_worker_beat(beat(models=(ModelLoad(MODEL, "loading"),)), 0.0)
    assert seen.progress(MODEL) is None
    seen.on_worker_beat(beat(models=(ModelLoad(MODEL, "loading", progress=0.25),)), 0.0)
    seen.on_worker_beat(beat(worker=OTHER, models=(ModelLoad(MODEL, "cached", progress=0.0),)), 0.0)
    assert seen.progress(MODEL) == 0.25


def test_dead_workers_are_forgotten() -> None:
    seen = cluster()
    seen.on_worker_beat(beat(), 0.0)
    seen.drop_dead(10.0)
    assert seen.model_state(MODEL) == "resident"
    seen.drop_dead(10.1)
    assert seen.model_state(MODEL) == "loading"


def test_ready_needs_a_router_a_worker_and_a_model() -> None:
    seen = cluster()
    assert "router" in seen.not_ready(0.0)
    seen.on_router_beat(RouterBeat(ROUTER), 0.0)
    assert "worker" in seen.not_ready(0.0)
    seen.on_worker_beat(beat(models=(ModelLoad(MODEL, "loading"),)), 0.0)
    assert "model" in seen.not_ready(0.0)
    seen.on_worker_beat(beat(), 0.0)
    assert seen.not_ready(0.0) == ""
    assert "worker" in seen.not_ready(FRESH_WORKER_S + 0.1)
    seen.on_worker_beat(beat(), FRESH_ROUTER_S + 0.1)
    assert "router" in seen.not_ready(FRESH_ROUTER_S + 0.1)


def test_all_states_at_once_are_those_of_each() -> None:
    seen, other = cluster(), ModelName("other")
    seen.on_worker_beat(beat(models=(ModelLoad(MODEL, "loading", progress=0.5), ModelLoad(other, "leaving"))), 0.0)
    seen.on_worker_beat(beat(worker=OTHER, models=(ModelLoad(MODEL, "cached"),)), 0.0)
    assert seen.states() == {MODEL: ("cached", 0.5), other: ("loading", None)}
    assert all((seen.model_state(name), seen.progress(name)) == found for name, found in seen.states().items())


def test_what_fits_elsewhere_fits_every_other_worker_that_takes_work() -> None:
    seen, third = cluster(), WorkerId("worker-2")

    def hear(worker: WorkerId, most: int, *, state: str = "cached", draining: bool = False, at_s: float = 0.0) -> None:
        load = ModelLoad(MODEL, state, max_sequence_tokens=most)  # type: ignore[arg-type]
        seen.on_worker_beat(replace(beat(worker=worker, models=(load,)), draining=draining), at_s)

    hear(WORKER, 500, draining=True)
    assert seen.fits_elsewhere(WORKER, 0.0) == {}
    hear(OTHER, 300)
    hear(third, 400)
    assert seen.fits_elsewhere(WORKER, 0.0) == {MODEL: 300}
    hear(OTHER, 300, draining=True)
    assert seen.fits_elsewhere(WORKER, 0.0) == {MODEL: 400}
    hear(third, 400, state="loading")
    assert seen.fits_elsewhere(WORKER, 0.0) == {}
    hear(third, 400)
    assert seen.fits_elsewhere(WORKER, FRESH_WORKER_S + 0.1) == {}
