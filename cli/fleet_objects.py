"""What gateways tell administrators, as this command reads it and prints it as JSON. Unknown fields are ignored."""

import msgspec


class ModelOnWorker(msgspec.Struct, frozen=True):
    id: str
    state: str  # loading, cached, resident, leaving, failed
    num_running: int
    num_waiting: int
    progress: float | None = None  # share done, while it is imported or read from disk
    reason: str = ""  # of state failed

    @property
    def num_sequences(self) -> int:
        return self.num_running + self.num_waiting


class Worker(msgspec.Struct, frozen=True):
    id: str
    incarnation: str  # another one after each start
    draining: bool  # it takes no new work
    silent_s: float  # since its last beat
    kv_used_bytes: int
    kv_total_bytes: int
    models: list[ModelOnWorker]

    @property
    def num_sequences(self) -> int:
        return sum(model.num_sequences for model in self.models)


class InFlight(msgspec.Struct, frozen=True):
    """One sequence."""

    request_id: str
    model: str
    tenant: str
    phase: str
    age_s: float
    position: int | None  # in its line; null: it has its first token
    wait_s: float | None  # that is expected; null: not known
    num_prompt_tokens: int
    num_output_tokens: int
    worker: str | None


class WorkerList(msgspec.Struct, frozen=True):
    data: list[Worker]


class RequestList(msgspec.Struct, frozen=True):
    data: list[InFlight]


class Drained(msgspec.Struct, frozen=True):
    """What `kottos drain` prints."""

    id: str
    draining: bool
    num_sequences: int | None = None  # that it still has; null: nobody waited for it
