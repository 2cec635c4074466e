"""Reasoning apart from content, in a model's text as it comes."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from gateway.tools.markers import possible_start


@dataclass(frozen=True, slots=True)
class ReasoningFormat:
    opening: str
    closing: str


_FORMATS: Final = (ReasoningFormat("<think>", "</think>"), ReasoningFormat("[THINK]", "[/THINK]"))


def reasoning_format(template: str) -> ReasoningFormat | None:
    """The one that the chat template knows of, if any."""
    return next((form for form in _FORMATS if form.opening in template or form.closing in template), None)


class _Reads(Enum):
    START = auto()  # reasoning may begin, or content
    LEAD = auto()  # white space, up to the first character of the reasoning
    REASONING = auto()
    GAP = auto()  # white space, up to the first character of the content
    CONTENT = auto()


class ReasoningSplitter:
    """Reasoning stands at the beginning of an answer, between markers. White space around it is dropped.

    The result depends on the text, not on how it was cut. Text is held back while it may be dropped.
    """

    def __init__(self, form: ReasoningFormat, *, has_begun: bool) -> None:
        """`has_begun`: the prompt ends with the opening marker. Models that write it once more are forgiven."""
        self._form = form
        self._reads = _Reads.LEAD if has_begun else _Reads.START
        self._pending = ""

    @property
    def num_held(self) -> int:
        """Characters."""
        return len(self._pending)

    @property
    def is_reasoning(self) -> bool:
        return self._reads in (_Reads.LEAD, _Reads.REASONING)

    def feed(self, text: str, *, is_last: bool = False) -> tuple[str, str]:
        """What may go out as reasoning, and as content."""
        if self._reads is _Reads.CONTENT:
            return "", text
        self._pending += text
        if self._reads is _Reads.START:
            self._read_start(is_last)
        if self._reads is _Reads.LEAD:
            self._read_lead(is_last)
        reasoning = self._read_reasoning(is_last) if self._reads is _Reads.REASONING else ""
        if self._reads is _Reads.GAP:
            self._pending = self._pending.lstrip()
            if self._pending:
                self._reads = _Reads.CONTENT
        content = ""
        if self._reads is _Reads.CONTENT:
            content, self._pending = self._pending, ""
        return reasoning, content

    def _read_start(self, is_last: bool) -> None:
        begun = self._pending.lstrip()
        if begun.startswith(self._form.opening):
            self._pending = begun[len(self._form.opening) :]
            self._reads = _Reads.LEAD
        elif is_last or not self._form.opening.startswith(begun):
            self._reads = _Reads.CONTENT

    def _read_lead(self, is_last: bool) -> None:
        text = self._pending.lstrip()
        while text.startswith(self._form.opening):
            text = text[len(self._form.opening) :].lstrip()
        self._pending = text
        if is_last or not self._form.opening.startswith(text):
            self._reads = _Reads.REASONING

    def _read_reasoning(self, is_last: bool) -> str:
        text = self._pending
        end = text.find(self._form.closing)
        if end >= 0:
            self._pending = text[end + len(self._form.closing) :]
            self._reads = _Reads.GAP
            return text[:end].rstrip()
        said = text[: len(text) if is_last else possible_start(text, (self._form.closing,))].rstrip()
        self._pending = "" if is_last else text[len(said) :]
        return said
