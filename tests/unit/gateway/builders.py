"""Messages with few knobs."""

from shared.ids import Incarnation, ModelName, OwnerId, RequestId, WorkerId
from shared.messages import Assigned, Ended, Frame, ModelLoad, Sampling, SequenceTokens, Submit, WorkerBeat

OWNER = OwnerId("gateway-1")
MODEL = ModelName("tiny/model")
WORKER = WorkerId("worker-0")
LIFE = Incarnation("life-1")
ROUTER = Incarnation("router-1")


def submit(
    request: str = "r", *, max_tokens: int = 100, stop_token_ids: tuple[int, ...] = (1,), **sampling_fields: int
) -> Submit:
    sampling = Sampling(max_tokens=max_tokens, seed=1, stop_token_ids=stop_token_ids, **sampling_fields)  # type: ignore[arg-type]
    return Submit(RequestId(request), 0, OWNER, MODEL, (5, 6, 7), sampling)


def assigned(request: str = "r", *, attempt: int = 0, worker: WorkerId = WORKER, life: Incarnation = LIFE) -> Assigned:
    return Assigned(RequestId(request), attempt, worker, life)


def tokens(
    first: int, *token_ids: int, request: str = "r", attempt: int = 0, ended: str | None = None
) -> SequenceTokens:
    end = Ended(ended) if ended else None  # type: ignore[arg-type]
    return SequenceTokens(RequestId(request), attempt, first, token_ids, end)


def frame(number: int, *sequences: SequenceTokens, worker: WorkerId = WORKER, life: Incarnation = LIFE) -> Frame:
    return Frame(worker, life, number, sequences)


def beat(
    *,
    life: Incarnation = LIFE,
    worker: WorkerId = WORKER,
    last_frame: int = 0,
    models: tuple[ModelLoad, ...] = (ModelLoad(MODEL, "resident"),),
) -> WorkerBeat:
    return WorkerBeat(worker, life, 1, models, None, 0, 0, 0, {OWNER: last_frame} if last_frame else {})
