"""Messages with few knobs."""

from collections.abc import Mapping
from typing import Any, Literal

from shared.ids import Incarnation, ModelName, OwnerId, RequestId, WorkerId
from shared.messages import Cancel, ModelLoad, Sampling, Submit, WorkerBeat

ROUTER = Incarnation("router-1")
MODEL = ModelName("m")
State = Literal["resident", "cached", "loading", "failed"]


def submit(request: str = "r", attempt: int = 0, model: str = MODEL, age_s: float = 0.0, **about: Any) -> Submit:
    sampling = Sampling(max_tokens=8, seed=1)
    owner, name = OwnerId("owner"), ModelName(model)
    return Submit(RequestId(request), attempt, owner, name, (1, 2), sampling, age_s=age_s, **about)


def cancel(request: str = "r", attempt: int = 0, model: str = MODEL, worker: str | None = None) -> Cancel:
    known = None if worker is None else WorkerId(worker)
    return Cancel(RequestId(request), attempt, OwnerId("owner"), ModelName(model), known)


def beat(
    worker: str = "w0",
    states: Mapping[str, State] | None = None,
    *,
    life: str = "1",
    load: int = 0,
    echo: tuple[str, int] | None = None,
    draining: bool = False,
    reason: str = "",
) -> WorkerBeat:
    """`load` sequences run the first model; `echo` is (router, number)."""
    states = states or {MODEL: "cached"}
    models = tuple(
        ModelLoad(ModelName(name), state, num_running=load if i == 0 else 0, reason=reason)
        for i, (name, state) in enumerate(states.items())
    )
    router, number = echo or (None, 0)
    return WorkerBeat(
        worker=WorkerId(worker),
        incarnation=Incarnation(f"{worker}-{life}"),
        number=1,
        models=models,
        router=None if router is None else Incarnation(router),
        last_assignment=number,
        kv_used_bytes=0,
        kv_total_bytes=0,
        last_frames={},
        draining=draining,
    )
