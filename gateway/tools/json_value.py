"""Where a JSON value ends, in a text that arrives in pieces: by its strings and brackets, not by its grammar."""

from enum import Enum, auto
from typing import Final

_CLOSING: Final = {"{": "}", "[": "]"}
_WHITESPACE: Final = " \t\r\n"
_OUTSIDE_STRINGS: Final = frozenset(
    "{}[]:,+-.0123456789" + _WHITESPACE + "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)


class Place(Enum):
    """Of a character."""

    INSIDE = auto()
    LAST = auto()
    BEHIND = auto()  # the value ended before it
    WRONG = auto()  # no value has it here


class JsonValue:
    """Takes the characters of one value, the first of which is not white space."""

    def __init__(self) -> None:
        self._closing: list[str] = []  # of the brackets that are open
        self._in_string = False
        self._is_escaped = False
        self._has_begun = False

    def take(self, char: str) -> Place:
        if self._in_string:
            return self._take_in_string(char)
        if not self._closing and self._has_begun and char in ",}]" + _WHITESPACE:  # after a number, true, false, null
            return Place.BEHIND
        self._has_begun = True
        if char == '"':
            self._in_string = True
        elif char in _CLOSING:
            self._closing.append(_CLOSING[char])
        elif char in "}]":
            if not self._closing or self._closing.pop() != char:
                return Place.WRONG
            return Place.INSIDE if self._closing else Place.LAST
        elif char not in _OUTSIDE_STRINGS:
            return Place.WRONG
        return Place.INSIDE

    def _take_in_string(self, char: str) -> Place:
        if self._is_escaped:
            self._is_escaped = False
        elif char == "\\":
            self._is_escaped = True
        elif char == '"':
            self._in_string = False
            return Place.INSIDE if self._closing else Place.LAST
        return Place.INSIDE
