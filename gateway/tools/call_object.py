"""A tool call as a JSON object, `{"name": NAME, "arguments": {...}}`, read as it comes."""

from enum import Enum, auto
from typing import Final

import msgspec

from gateway.tools.json_value import JsonValue, Place

_WHITESPACE: Final = " \t\r\n"
_ARGUMENTS: Final = frozenset({"arguments", "parameters"})
_BEFORE_A_CALL: Final = _ARGUMENTS | {"name", "id", "type"}  # another key says that it is none


class State(Enum):
    OPEN = auto()  # more is to come
    CLOSED = auto()  # a call, whole
    BROKEN = auto()  # no call


class _Expects(Enum):
    OBJECT = auto()
    KEY = auto()
    COLON = auto()
    VALUE = auto()
    COMMA = auto()


class _Reads(Enum):
    KEY = auto()
    NAME = auto()
    ARGUMENTS = auto()
    OTHER = auto()


class CallObject:
    """It is a call once it has named one of `names` and its arguments, an object, have begun (or it ends without any).

    What follows belongs to that call, well-formed or not: it ends where its brackets close, or before the first
    character that can't be in JSON.
    """

    def __init__(self, names: frozenset[str], name: str = "") -> None:
        """`name`: it was said before, and the object is its arguments alone."""
        self.state = State.OPEN
        self.name = name
        self.is_call = False
        self._names = names
        self._is_arguments = bool(name)
        self._expects = _Expects.VALUE if name else _Expects.OBJECT
        self._key = "arguments" if name else ""
        self._reads = _Reads.OTHER
        self._value: JsonValue | None = None  # that is being read
        self._string: list[str] = []  # of a key or name that is being read
        self._arguments: list[str] = []  # that nobody has got yet
        self._has_arguments = False

    def feed(self, text: str) -> tuple[int, str]:
        """How many of its characters belong here, and the arguments that are new."""
        num = 0
        while num < len(text) and self.state is State.OPEN:
            num += self._take(text[num])
        if not self.is_call:
            return num, ""
        new, self._arguments = "".join(self._arguments), []
        return num, new

    def _take(self, char: str) -> bool:
        """Whether it belongs here."""
        if self._value is not None:
            return self._take_in_value(self._value, char)
        if char in _WHITESPACE:
            return True
        match self._expects, char:
            case _Expects.OBJECT, "{":
                self._expects = _Expects.KEY
            case _Expects.KEY, '"':
                return self._begin(_Reads.KEY, char)
            case _Expects.COLON, ":":
                self._expects = _Expects.VALUE
            case _Expects.VALUE, _:
                return self._begin_value(char)
            case _Expects.COMMA, ",":
                self._expects = _Expects.KEY
            case ((_Expects.KEY | _Expects.COMMA), "}"):
                self._close()
            case _:
                return self._stop()
        return True

    def _begin_value(self, char: str) -> bool:
        if self._key == "name" and not self.name:
            return self._begin(_Reads.NAME, char) if char == '"' else self._stop()
        if self._key in _ARGUMENTS and not self._has_arguments:
            if char != "{":
                return self._stop()
            self._has_arguments = True
            self.is_call = bool(self.name)
            return self._begin(_Reads.ARGUMENTS, char)
        if not self.is_call and self._key not in _BEFORE_A_CALL:
            return self._stop()
        return self._begin(_Reads.OTHER, char)

    def _begin(self, reads: _Reads, char: str) -> bool:
        self._reads = reads
        self._value = JsonValue()
        self._string = []
        return self._take_in_value(self._value, char)

    def _take_in_value(self, value: JsonValue, char: str) -> bool:
        place = value.take(char)
        if place is Place.WRONG:
            return self._stop()
        if place is Place.BEHIND:
            self._value, self._expects = None, _Expects.COMMA
            return self._take(char)
        if self._reads is _Reads.ARGUMENTS:
            self._arguments.append(char)
        elif self._reads is not _Reads.OTHER:
            self._string.append(char)
        if place is Place.LAST:
            self._end_value()
        return True

    def _end_value(self) -> None:
        self._value, self._expects = None, _Expects.COMMA
        if self._reads is _Reads.KEY:
            self._key, self._expects = _decoded(self._string), _Expects.COLON
        elif self._reads is _Reads.NAME:
            self.name = _decoded(self._string)
            self.is_call = self._has_arguments
            if self.name not in self._names:
                self.is_call, self.state = False, State.BROKEN
        elif self._is_arguments:
            self.state = State.CLOSED

    def _close(self) -> None:
        if self.name and not self._has_arguments:
            self.is_call = True
            self._arguments.append("{}")
        self.state = State.CLOSED if self.is_call else State.BROKEN

    def _stop(self) -> bool:
        self.state = State.CLOSED if self.is_call else State.BROKEN
        return False


def _decoded(string: list[str]) -> str:
    try:
        return msgspec.json.decode("".join(string), type=str)
    except msgspec.DecodeError:
        return ""  # no name and no key of ours
