"""What a gateway has in flight, for whoever looks after it. No prompt and no output is in it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gateway.admission.waiting import WaitingCall
from gateway.output.choice import Choice
from gateway.request.call import Call
from gateway.sequences.sequence import Phase
from gateway.tenants.usage import Claim
from shared.ids import ModelName, WorkerId


@dataclass(frozen=True, slots=True)
class InFlight:
    """One sequence."""

    request_id: str
    model: ModelName
    tenant: str  # its id
    phase: Literal["preparing"] | Phase  # preparing: checked, rendered, tokenized
    age_s: float
    position: int | None  # of those of its model and tenant that wait for a first token; None: it has one
    wait_s: float | None  # that is expected until then; None: not known
    num_prompt_tokens: int  # 0 while it is prepared
    num_output_tokens: int
    worker: WorkerId | None


@dataclass(frozen=True, slots=True)
class OpenCall:
    """What a call holds from its admission to its end."""

    call: Call
    num_sequences: int
    choices: list[Choice]  # as many as were opened so far
    waiting: WaitingCall
    claim: Claim

    def in_flight(self, now_s: float) -> Iterator[InFlight]:
        call = self.call
        for index in range(self.num_sequences):
            choice = self.choices[index] if index < len(self.choices) else None
            if choice is not None and choice.finish_reason:
                continue
            standing = self.waiting.standing(index)
            yield InFlight(
                f"{call.call_id}-{index}",
                call.model,
                call.tenant.id,
                "preparing" if choice is None else choice.phase,
                now_s - call.arrived_at_s,
                None if standing is None else standing.position,
                None if standing is None else standing.wait_s,
                0 if choice is None else len(choice.prompt),
                0 if choice is None else choice.num_arrived_tokens,
                None if choice is None else choice.worker,
            )

    @property
    def num_unfinished(self) -> int:
        """Of its sequences."""
        return self.num_sequences - sum(choice.finish_reason is not None for choice in self.choices)
