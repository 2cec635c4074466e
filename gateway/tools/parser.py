"""Content and tool calls out of a model's text as it comes. The result depends on the text, not on how it was cut."""

import re
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from gateway.tools.call_object import CallObject, State
from gateway.tools.formats import ARGS, CALL_ID, ToolFormat
from gateway.tools.markers import first_marker, possible_start
from shared.messages import ToolCallPiece

_MAX_HEAD_CHARS: Final = 128  # NAME[CALL_ID]...[ARGS], up to the arguments
_HEAD: Final = re.compile(rf"([\w.-]+)(?:{re.escape(CALL_ID)}\w*)?(?:{re.escape(ARGS)})?\s*")


class _Reads(Enum):
    CONTENT = auto()
    OPENING = auto()  # a call or a list of calls is to begin
    CALL = auto()
    SEPARATOR = auto()  # what stands between calls, or ends them


class ToolCallParser:
    """What begins as a call and is none goes out as content, markers included.

    White space around calls is dropped, so the end of the content is held back while it is white space.
    """

    def __init__(
        self, form: ToolFormat, names: frozenset[str], new_call_id: Callable[[], str], *, parallel: bool = True
    ) -> None:
        self.num_calls = 0
        self._form = form
        self._names = names
        self._new_call_id = new_call_id
        self._parallel = parallel
        self._reads = _Reads.CONTENT
        self._pending = ""  # not looked at to its end
        self._undecided = ""  # what came before it, of what may become a call
        self._space = ""  # at the end of the content so far
        self._is_first = form.begins_bare  # nothing but white space came yet
        self._is_list = False
        self._call = CallObject(names)
        self._content: list[str] = []
        self._calls: list[ToolCallPiece] = []

    @property
    def num_held(self) -> int:
        """Characters at the end of the text so far that are neither out nor dropped."""
        return len(self._space) + len(self._undecided) + len(self._pending)

    @property
    def is_complete(self) -> bool:
        """Nothing after the one call is wanted."""
        return not self._parallel and self.num_calls > 0 and self._reads is not _Reads.CALL

    def feed(self, text: str, *, is_last: bool = False) -> tuple[str, list[ToolCallPiece]]:
        """The content that may go out, and what calls grew by."""
        self._pending += text
        while not self.is_complete and self._advance(is_last):
            pass
        if self.is_complete:
            self._pending = self._undecided = self._space = ""
        elif is_last:
            self._end()
        content, self._content = "".join(self._content), []
        calls, self._calls = self._calls, []
        return content, calls

    def _advance(self, is_last: bool) -> bool:
        """One step. False when it takes more text to go on."""
        match self._reads:
            case _Reads.CONTENT:
                return self._read_content(is_last)
            case _Reads.OPENING:
                return self._read_opening(is_last)
            case _Reads.CALL:
                return self._read_call()
            case _Reads.SEPARATOR:
                return self._read_separator()

    def _read_content(self, is_last: bool) -> bool:
        text = self._pending
        if self._is_first:
            begun = text.lstrip()
            if not begun and not is_last:
                return False
            self._is_first = False
            if begun.startswith("{"):
                self._undecided, self._pending = text[: len(text) - len(begun)], begun
                self._reads = _Reads.OPENING
                return True
        if found := first_marker(text, self._form.openings):
            start, marker = found
            self._say(text[:start])
            self._undecided, self._pending = marker, text[start + len(marker) :]
            self._reads = _Reads.OPENING
            return True
        cut = len(text) if is_last else possible_start(text, self._form.openings)
        self._say(text[:cut])
        self._pending = text[cut:]
        return False

    def _read_opening(self, is_last: bool) -> bool:
        text = self._pending.lstrip()
        if not text:
            return False
        if text[0] == "{":
            return self._begin_call(CallObject(self._names), text)
        if text[0] == "[" and not self._is_list:
            self._is_list = True
            self._undecided += self._pending[: len(self._pending) - len(text) + 1]
            self._pending = text[1:]
            return True
        if self._form.takes_heads and not self._is_list:
            return self._read_head(text, is_last)
        return self._give_up()

    def _read_head(self, text: str, is_last: bool) -> bool:
        end = text.find("{", 0, _MAX_HEAD_CHARS)
        if end < 0:
            return self._give_up() if is_last or len(text) >= _MAX_HEAD_CHARS else False
        head = _HEAD.fullmatch(text[:end])
        if head is None or head[1] not in self._names:
            return self._give_up()
        return self._begin_call(CallObject(self._names, head[1]), text[end:])

    def _begin_call(self, call: CallObject, rest: str) -> bool:
        self._undecided += self._pending[: len(self._pending) - len(rest)]
        self._pending = rest
        self._call = call
        self._reads = _Reads.CALL
        return True

    def _read_call(self) -> bool:
        was_call = self._call.is_call
        num, arguments = self._call.feed(self._pending)
        taken, self._pending = self._pending[:num], self._pending[num:]
        if not was_call:
            self._undecided += taken
        if self._call.is_call and not was_call:
            self._calls.append(ToolCallPiece(self.num_calls, id=self._new_call_id(), name=self._call.name))
            self.num_calls += 1
            self._undecided = self._space = ""
        if arguments:
            self._calls.append(ToolCallPiece(self.num_calls - 1, arguments))
        if self._call.state is State.BROKEN:
            return self._give_up()
        if self._call.state is State.CLOSED:
            self._reads = _Reads.SEPARATOR
            return True
        return False

    def _read_separator(self) -> bool:
        text = self._pending.lstrip()
        if not text:
            return False
        if self._is_list and text[0] in ",]":
            self._is_list = text[0] == ","
            return self._go_on(text, 1, _Reads.OPENING if self._is_list else _Reads.SEPARATOR)
        separator, closing = self._form.separator, self._form.closing
        if separator and text.startswith(separator):
            return self._go_on(text, len(separator), _Reads.OPENING)
        if text[0] == "{" and not self._is_list:
            return self._go_on(text, 0, _Reads.OPENING)
        if closing and text.startswith(closing):
            self._is_list = False
            return self._go_on(text, len(closing), _Reads.CONTENT)
        if closing.startswith(text):
            return False
        self._is_list = False
        self._reads = _Reads.CONTENT
        return True

    def _go_on(self, text: str, num_chars: int, reads: _Reads) -> bool:
        """`text`: what is pending, without its leading white space."""
        passed = self._pending[: len(self._pending) - len(text) + num_chars]
        self._undecided = passed if reads is _Reads.OPENING else ""
        self._pending = text[num_chars:]
        self._reads = reads
        return True

    def _give_up(self) -> bool:
        """What began as a call is content."""
        self._is_list = False
        undecided, self._undecided = self._undecided, ""
        self._say(undecided)
        self._reads = _Reads.CONTENT
        return True

    def _say(self, content: str) -> None:
        text = self._space + content
        said = text.rstrip()
        self._content.append(said)
        self._space = text[len(said) :]

    def _end(self) -> None:
        """No more text comes."""
        if self._reads is _Reads.OPENING or (self._reads is _Reads.CALL and not self._call.is_call):
            self._say(self._undecided + self._pending)
        if self.num_calls == 0:
            self._content.append(self._space)
        self._undecided = self._pending = self._space = ""
