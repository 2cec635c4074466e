"""What /admin/feed says: each `data` is one of these, as JSON. Times are seconds, instants count from the gateway's
start.

Queues and requests are this gateway's, workers are everybody's. No prompt and no output is shown.
"""

from typing import Literal

import msgspec

from gateway.fleet.cluster import ModelState
from gateway.http.status import SloObject
from shared.ids import Incarnation, ModelName, OwnerId, WorkerId
from shared.messages import SwitchKind


class FeedModel(msgspec.Struct, frozen=True):
    model: ModelName
    state: ModelState  # the best on any worker
    progress: float | None  # share done, while it is imported or read from disk
    pinned: bool
    priority: int
    waiting: int  # sequences without a token yet
    running: int  # the others
    predicted_ttft_s: float | None  # of one that comes now; null: not known
    attainment: float | None  # share of tokens on time since this gateway started; null: none was due yet
    tokens_per_s: float  # of output, on all workers
    slo: SloObject


class FeedMemory(msgspec.Struct, frozen=True):
    """Where weights lie."""

    total_bytes: int | None  # for weights; null: not known
    models: dict[ModelName, int]  # bytes of each that is there


class FeedKv(msgspec.Struct, frozen=True):
    used_bytes: int
    total_bytes: int


class FeedWorker(msgspec.Struct, frozen=True):
    worker: WorkerId
    incarnation: Incarnation
    draining: bool  # it takes no new work
    policy: str  # empty: not known
    device: FeedMemory
    host: FeedMemory  # of the host model cache, as far as this worker maps it
    kv: FeedKv
    tokens_per_s: float  # of output
    switches_per_s: float


class FeedRequest(msgspec.Struct, frozen=True):
    """One sequence, as /admin/requests has it."""

    id: str
    model: ModelName
    tenant: str  # its id
    phase: Literal["waiting", "prefill", "decode"]  # prefill: the worker computes its prompt
    num_prompt_tokens: int  # 0 while it is prepared
    num_output_tokens: int
    age_s: float
    worker: WorkerId | None
    status: str  # what it waits for, in words; empty while it decodes


class FeedState(msgspec.Struct, frozen=True, tag="state", tag_field="type"):
    """Twice a second."""

    at_s: float
    gateway: OwnerId
    models: list[FeedModel]
    workers: list[FeedWorker]
    requests: list[FeedRequest]  # the 200 oldest
    num_requests: int  # all of them
    num_viewers: int


class FeedSwitch(msgspec.Struct, frozen=True):
    """How the model's weights came. It ended when the turn began."""

    kind: SwitchKind
    waited_s: float  # from the decision; from disk, from when it could have run
    copied_bytes: int


class FeedStep(msgspec.Struct, frozen=True, array_like=True, gc=False):
    offset_s: float  # from its turn's began_at_s to its beginning
    duration_s: float
    num_prefill_tokens: int
    num_decode_tokens: int


class FeedTurn(msgspec.Struct, frozen=True):
    """Steps of one model in a row. One that goes on comes again, with its new steps and without a switch."""

    model: ModelName
    began_at_s: float  # the first of these steps
    switch: FeedSwitch | None
    steps: list[FeedStep]  # in order


class FeedTurns(msgspec.Struct, frozen=True, tag="turns", tag_field="type"):
    """Of one worker, whose turns follow one another; at most ten times a second."""

    worker: WorkerId
    turns: list[FeedTurn]


class FeedLost(msgspec.Struct, frozen=True, tag="lost", tag_field="type"):
    """So many were left out here: they were not read in time."""

    number: int


FeedEvent = FeedState | FeedTurns | FeedLost
