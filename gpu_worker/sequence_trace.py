"""What a worker notes of a sequence whose request is traced: its turns on the device, as plain numbers. Pure."""

from dataclasses import dataclass, field
from typing import Final

from shared.ids import ModelName
from shared.messages import SwitchTold
from shared.spans import SpanContext

MAX_TURNS: Final = 256  # of a sequence: what comes after that goes into the last one


@dataclass(slots=True)
class TracedTurn:
    """Steps of a sequence between two switches of its device."""

    number: int  # of the device's turns
    began_at_s: float  # its first step
    ended_at_s: float  # its last step
    switch: SwitchTold | None  # right before its first step; None: others had run before, or none was needed
    num_turns: int = 1  # more where it stands for several
    num_steps: int = 0
    num_prefill_tokens: int = 0
    num_decode_tokens: int = 0


@dataclass(slots=True, eq=False)
class SequenceTrace:
    context: SpanContext  # of the owner's span: ours belong below
    model: ModelName
    turns: list[TracedTurn] = field(default_factory=list)

    def stepped(
        self,
        turn: int,
        switch: SwitchTold | None,
        began_at_s: float,
        ended_at_s: float,
        num_tokens: int,
        *,
        is_decode: bool,
    ) -> None:
        last = self.turns[-1] if self.turns else None
        if last is None or (last.number != turn and len(self.turns) < MAX_TURNS):
            last = TracedTurn(turn, began_at_s, ended_at_s, switch)
            self.turns.append(last)
        elif last.number != turn:
            last.number = turn
            last.num_turns += 1
        last.ended_at_s = ended_at_s
        last.num_steps += 1
        if is_decode:
            last.num_decode_tokens += num_tokens
        else:
            last.num_prefill_tokens += num_tokens
