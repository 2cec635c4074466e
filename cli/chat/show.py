"""How an answer appears: its text on standard output as it comes, all else on standard error."""

import sys
from typing import TYPE_CHECKING

from cli.chat.answer import Answer
from cli.output import printable, stderr_console

if TYPE_CHECKING:
    from rich.status import Status


class PlainShow:
    """For scripts: nothing but the text."""

    def waiting(self, text: str) -> None:
        pass

    def reasoning(self, text: str) -> None:
        pass

    def content(self, text: str) -> None:
        print(text, end="", flush=True)


class Silent(PlainShow):
    def content(self, text: str) -> None:
        pass


class TerminalShow:
    """For people: a sign of life until the text comes, and what the model thinks in pale."""

    def __init__(self) -> None:
        self._console = stderr_console()
        self._status: Status | None = None
        self._is_thinking = False

    def begin(self) -> None:
        if self._console.is_terminal:
            self._status = self._console.status("", spinner="dots")
            self._status.start()

    def end(self) -> None:
        self._settle()
        if self._is_thinking:
            self._is_thinking = False
            print("\x1b[0m", end="")
        print(flush=True)

    def waiting(self, text: str) -> None:
        if self._status is not None:
            self._status.update(printable(text).replace("[", r"\["))

    def reasoning(self, text: str) -> None:
        self._settle()
        if not self._is_thinking:
            self._is_thinking = True
            print("\x1b[2m", end="")
        print(printable(text), end="", flush=True)

    def content(self, text: str) -> None:
        self._settle()
        if self._is_thinking:
            self._is_thinking = False
            print("\x1b[0m\n")
        print(printable(text), end="", flush=True)

    def _settle(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


def note(text: str) -> None:
    """Beside the conversation."""
    is_terminal = sys.stderr.isatty()
    print(f"\x1b[2m{printable(text)}\x1b[0m" if is_terminal else printable(text), file=sys.stderr, flush=True)


def stats(answer: Answer) -> str:
    """'first token after 0.21 s, 34.2 tokens/s, 12 + 57 tokens'"""
    parts = []
    if answer.ttft_s is not None:
        parts.append(f"first token after {answer.ttft_s:.2f} s")
    if answer.tokens_per_s is not None:
        parts.append(f"{answer.tokens_per_s:.1f} tokens/s")
    if answer.usage is not None:
        parts.append(f"{answer.usage.prompt_tokens} + {answer.usage.completion_tokens} tokens")
    return ", ".join(parts) or "nothing came"
