"""An answer's parts as Anthropic's events, as they come."""

from gateway.http.anthropic.response import (
    Block,
    BlockDelta,
    BlockStart,
    BlockStop,
    InputDelta,
    StreamEvent,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolUse,
)
from gateway.output.answer import Parts


class BlockEvents:
    """One block after the other: what does not belong to the open block closes it."""

    def __init__(self) -> None:
        self._index = -1
        self._open: type[Block] | None = None

    def write(self, parts: Parts) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        if parts.reasoning:
            events += self._in(Thinking(""))
            events.append(BlockDelta(self._index, ThinkingDelta(parts.reasoning)))
        if parts.content:
            events += self._in(Text(""))
            events.append(BlockDelta(self._index, TextDelta(parts.content)))
        for piece in parts.tool_calls:
            if piece.id:  # the first of its call
                events += self._begin(ToolUse(piece.id, piece.name, {}))
            if piece.arguments:
                events.append(BlockDelta(self._index, InputDelta(piece.arguments)))
        return events

    def close(self) -> list[StreamEvent]:
        if self._open is None:
            return []
        self._open = None
        return [BlockStop(self._index)]

    def _in(self, block: Block) -> list[StreamEvent]:
        return [] if self._open is type(block) else self._begin(block)

    def _begin(self, block: Block) -> list[StreamEvent]:
        closing = self.close()
        self._index += 1
        self._open = type(block)
        return [*closing, BlockStart(self._index, block)]
