"""An answer's parts as output items, with the events that they come in."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from gateway.http.responses_api import events
from gateway.http.responses_api.events import StreamEvent
from gateway.http.responses_api.response import (
    FunctionCallItem,
    MessageItem,
    OutputItem,
    OutputText,
    ReasoningItem,
    ReasoningText,
    Status,
)
from gateway.output.answer import Parts
from shared.ids import new_id
from shared.messages import ToolCallPiece


class _TextKind(NamedTuple):
    """What items of text are made of."""

    id_prefix: str
    item: Callable[..., OutputItem]
    part: type[OutputText] | type[ReasoningText]
    delta: Callable[..., StreamEvent]
    done: Callable[..., StreamEvent]


_MESSAGE: Final = _TextKind("msg", MessageItem, OutputText, events.TextDelta, events.TextDone)
_REASONING: Final = _TextKind("rs", ReasoningItem, ReasoningText, events.ReasoningDelta, events.ReasoningDone)


class _TextItem:
    """Has one part."""

    def __init__(self, kind: _TextKind, index: int) -> None:
        self.kind = kind
        self._index = index
        self._id = new_id(kind.id_prefix)
        self._texts: list[str] = []

    def item(self, status: Status) -> OutputItem:
        return self.kind.item(self._id, status, () if status == "in_progress" else (self._part(),))

    def opening(self) -> list[StreamEvent]:
        added = events.ItemAdded(self._index, self.item("in_progress"))
        return [added, events.PartAdded(self._index, self._id, self._part())]

    def add(self, text: str) -> StreamEvent:
        self._texts.append(text)
        return self.kind.delta(self._index, self._id, text)

    def closing(self, status: Status) -> list[StreamEvent]:
        part = self._part()
        return [
            self.kind.done(self._index, self._id, part.text),
            events.PartDone(self._index, self._id, part),
            events.ItemDone(self._index, self.item(status)),
        ]

    def _part(self) -> Any:
        return self.kind.part("".join(self._texts))


class _CallItem:
    kind: _TextKind | None = None

    def __init__(self, index: int, call_id: str, name: str) -> None:
        self._index = index
        self._id = new_id("fc")
        self._call_id = call_id
        self._name = name
        self._arguments: list[str] = []

    def item(self, status: Status) -> FunctionCallItem:
        return FunctionCallItem(self._id, status, self._call_id, self._name, "".join(self._arguments))

    def opening(self) -> list[StreamEvent]:
        return [events.ItemAdded(self._index, self.item("in_progress"))]

    def add(self, arguments: str) -> StreamEvent:
        self._arguments.append(arguments)
        return events.ArgumentsDelta(self._index, self._id, arguments)

    def closing(self, status: Status) -> list[StreamEvent]:
        item = self.item(status)
        done = events.ArgumentsDone(self._index, self._id, item.name, item.arguments)
        return [done, events.ItemDone(self._index, item)]


class OutputItems:
    """One item after the other: what does not belong to the open item closes it."""

    def __init__(self) -> None:
        self.done: list[OutputItem] = []
        self._open: _TextItem | _CallItem | None = None

    def write(self, parts: Parts) -> list[StreamEvent]:
        written: list[StreamEvent] = []
        for kind, text in ((_REASONING, parts.reasoning), (_MESSAGE, parts.content)):
            if text:
                written += self._write_text(kind, text)
        for piece in parts.tool_calls:
            written += self._write_call(piece)
        return written

    def close(self, status: Status) -> list[StreamEvent]:
        """The item that is open ends like that."""
        if self._open is None:
            return []
        closed, self._open = self._open, None
        self.done.append(closed.item(status))
        return closed.closing(status)

    def _write_text(self, kind: _TextKind, text: str) -> list[StreamEvent]:
        opening: list[StreamEvent] = []
        if self._open is None or self._open.kind is not kind:
            opening = self._begin(lambda index: _TextItem(kind, index))
        assert self._open is not None  # it has just begun, or was open
        return [*opening, self._open.add(text)]

    def _write_call(self, piece: ToolCallPiece) -> list[StreamEvent]:
        opening: list[StreamEvent] = []
        if piece.id:  # the first of its call
            opening = self._begin(lambda index: _CallItem(index, piece.id, piece.name))
        assert isinstance(self._open, _CallItem)  # calls come one after the other
        return [*opening, self._open.add(piece.arguments)] if piece.arguments else opening

    def _begin(self, make: Callable[[int], _TextItem | _CallItem]) -> list[StreamEvent]:
        closing = self.close("completed")
        self._open = make(len(self.done))
        return [*closing, *self._open.opening()]
