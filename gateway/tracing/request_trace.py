"""What a gateway notes of a traced request, from its arrival to its last byte: instants and counts, no spans yet."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from gateway.tracing.sequence_trace import SequenceTrace
from shared.spans import Root, Value

MAX_CONTENT_CHARS: Final = 8192  # of a prompt or an output, where they are kept
CLIENT_LEFT: Final = "client_left"  # as an error


class Stage(NamedTuple):
    """Something that was done once, before its sequences began."""

    name: str
    began_at_s: float
    ended_at_s: float


@dataclass(slots=True)
class Writing:
    """Tokens to text, and text to the client: all of it together."""

    began_at_s: float
    ended_at_s: float = 0.0
    num_writes: int = 0
    detokenizing_s: float = 0.0


@dataclass(slots=True, eq=False)
class RequestTrace:
    root: Root
    name: str  # of its first span
    clock: Callable[[], float]
    began_at_s: float
    attributes: dict[str, Value]
    keeps_content: bool = False
    num_choices: int = 1  # for each prompt
    error: str = ""  # why it got no answer; empty: it got one, or its sequences say why
    stages: list[Stage] = field(default_factory=list)
    sequences: list[SequenceTrace] = field(default_factory=list)
    writing: Writing | None = None
    outputs: dict[int, str] = field(default_factory=dict)  # by choice, where they are kept

    def begin_sequence(self) -> SequenceTrace:
        sequence = SequenceTrace(self.root.context, self.clock())
        self.sequences.append(sequence)
        return sequence

    def detokenized(self, began_at_s: float, texts: Iterable[tuple[int, str]]) -> None:
        """Tokens became these texts of choices, none or several."""
        now_s = self.clock()
        if self.writing is None:
            self.writing = Writing(began_at_s)
        self.writing.detokenizing_s += now_s - began_at_s
        self.writing.ended_at_s = now_s
        if self.keeps_content:
            for choice, text in texts:
                self.outputs[choice] = clipped(self.outputs.get(choice, "") + text)

    def written(self) -> None:
        """What became text is on its way to the client."""
        if self.writing is not None:
            self.writing.ended_at_s = self.clock()
            self.writing.num_writes += 1


@contextmanager
def stage(trace: RequestTrace | None, name: str) -> Iterator[None]:
    """What the block takes, if the request is traced."""
    if trace is None:
        yield
        return
    began_at_s = trace.clock()
    try:
        yield
    finally:
        trace.stages.append(Stage(name, began_at_s, trace.clock()))


def clipped(text: str) -> str:
    return text if len(text) <= MAX_CONTENT_CHARS else text[: MAX_CONTENT_CHARS - 1] + "…"
