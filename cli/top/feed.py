"""The feed as `kottos top` reads and prints it. Times are seconds, instants count from the gateway's start."""

from typing import Final

import msgspec


class Slo(msgspec.Struct, frozen=True):
    ttft_s: float
    tbt_s: float


class Model(msgspec.Struct, frozen=True):
    model: str
    state: str
    progress: float | None  # share done, while it is imported or read from disk
    pinned: bool
    priority: int
    waiting: int  # sequences without a token yet
    running: int  # the others
    predicted_ttft_s: float | None  # of one that comes now; null: not known
    attainment: float | None  # share of tokens on time; null: none was due yet
    tokens_per_s: float  # of output, on all workers
    slo: Slo


class Memory(msgspec.Struct, frozen=True):
    """Where weights lie."""

    total_bytes: int | None  # null: not known
    models: dict[str, int]  # bytes of each that is there


class Kv(msgspec.Struct, frozen=True):
    used_bytes: int
    total_bytes: int


class Worker(msgspec.Struct, frozen=True):
    worker: str
    incarnation: str
    draining: bool  # it takes no new work
    policy: str  # empty: not known
    device: Memory
    host: Memory
    kv: Kv
    tokens_per_s: float
    switches_per_s: float


class Request(msgspec.Struct, frozen=True):
    """One sequence."""

    id: str
    model: str
    tenant: str
    phase: str  # waiting, prefill, decode
    num_prompt_tokens: int
    num_output_tokens: int
    age_s: float
    worker: str | None
    status: str  # what it waits for, in words


class State(msgspec.Struct, frozen=True, tag="state", tag_field="type"):
    """Twice a second."""

    at_s: float
    gateway: str
    models: list[Model]
    workers: list[Worker]
    requests: list[Request]  # the 200 oldest
    num_requests: int
    num_viewers: int


class Switch(msgspec.Struct, frozen=True):
    """How a model's weights came, before its turn."""

    kind: str
    waited_s: float
    copied_bytes: int


class Step(msgspec.Struct, frozen=True, array_like=True):
    offset_s: float  # from the turn's began_at_s
    duration_s: float
    num_prefill_tokens: int
    num_decode_tokens: int


class Turn(msgspec.Struct, frozen=True):
    model: str
    began_at_s: float
    switch: Switch | None  # null: the turn goes on
    steps: list[Step]


class Turns(msgspec.Struct, frozen=True, tag="turns", tag_field="type"):
    worker: str
    turns: list[Turn]


class Lost(msgspec.Struct, frozen=True, tag="lost", tag_field="type"):
    """So many events were left out, as they were not read in time."""

    number: int


Event = State | Turns | Lost


class _Kind(msgspec.Struct, frozen=True):
    type: str


_KNOWN: Final = frozenset({"state", "turns", "lost"})
_decoder: Final = msgspec.json.Decoder(Event)
_kind_decoder: Final = msgspec.json.Decoder(_Kind)


def decode(data: bytes) -> Event | None:
    """None: an event of a later version. Raises msgspec.DecodeError."""
    if _kind_decoder.decode(data).type not in _KNOWN:
        return None
    return _decoder.decode(data)
