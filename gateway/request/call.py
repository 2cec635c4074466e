"""What a front asks of the pipeline."""

from dataclasses import dataclass

from gateway.request.prompts import Prompt
from gateway.tenants.tenant import NOBODY, Tenant
from gateway.tracing.request_trace import RequestTrace
from shared.ids import ModelName
from shared.messages import GenerationParams


@dataclass(frozen=True, slots=True)
class Call:
    call_id: str  # unique for ever; the request ids begin with it
    model: ModelName
    prompts: tuple[Prompt, ...]  # params.n choices each
    params: GenerationParams
    arrived_at_s: float
    tenant: Tenant = NOBODY
    trace: RequestTrace | None = None  # where it is traced
