"""A request on a simulated worker: a SequenceView (gpu_worker/scheduling/policy.py) without tokens."""

from shared.ids import ModelName, RequestId
from simulator.workload import Request


class SimulatedSequence:
    """Blocks cover its computed tokens, except while they are under copy or in host memory."""

    __slots__ = (
        "block_ids",
        "first_due_at_s",
        "is_ready",
        "max_output_tokens",
        "model",
        "num_computed_tokens",
        "num_preemptions",
        "num_prompt_tokens",
        "num_tokens",
        "place_s",
        "priority",
        "request_id",
        "tbt_s",
        "tenant",
        "written_at_s",
    )

    def __init__(self, request: Request) -> None:
        self.request_id: RequestId = request.request_id
        self.model: ModelName = request.model
        self.priority = 0
        self.tenant = request.tenant
        self.first_due_at_s = request.arrives_at_s + request.slo.ttft_s
        self.place_s = self.first_due_at_s
        self.tbt_s = request.slo.tbt_s
        self.num_prompt_tokens = request.num_prompt_tokens
        self.num_tokens = request.num_prompt_tokens
        self.num_computed_tokens = 0
        self.max_output_tokens = request.num_output_tokens
        self.is_ready = True
        self.block_ids: list[int] = []  # of the device
        self.num_preemptions = 0
        self.written_at_s: list[float] = []  # of each token of the output

    @property
    def num_output_tokens(self) -> int:
        return self.num_tokens - self.num_prompt_tokens

    @property
    def due_at_s(self) -> float:
        return self.first_due_at_s + (self.num_tokens - self.num_prompt_tokens) * self.tbt_s

    @property
    def is_finished(self) -> bool:
        return self.num_tokens - self.num_prompt_tokens >= self.max_output_tokens

    def write(self, now_s: float) -> None:
        """Its next token."""
        self.num_tokens += 1
        self.written_at_s.append(now_s)
