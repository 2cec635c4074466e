"""The conversation on a terminal: a line, its answer, and so on."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import assert_never

from cli.address import Address
from cli.chat.lines import HELP, Command, Say, Unknown, understand
from cli.chat.session import Asked, ChatSession
from cli.chat.show import TerminalShow, note, stats
from cli.gateway_client import GatewayClient
from shared.errors import KottosError

ReadLine = Callable[[str], str]  # prompt -> line; raises EOFError, KeyboardInterrupt


class Prompt:
    def __init__(self, session: ChatSession, runner: asyncio.Runner, read_line: ReadLine, *, shows_stats: bool) -> None:
        self._session = session
        self._runner = runner
        self._read_line = read_line
        self._shows_stats = shows_stats

    def run(self) -> None:
        """Until the person leaves. An error ends an answer, and not the conversation."""
        for text in self._lines():
            match understand(text):
                case None:
                    continue
                case Say(question):
                    self._say(question)
                case Unknown(name):
                    note(f"there is no /{name}; /help says what there is")
                case Command("quit", _):
                    return
                case Command() as command:
                    with _told():
                        self._perform(command)
                case never:
                    assert_never(never)

    def _lines(self) -> Iterator[str]:
        """What is typed, joined where a line ends in a backslash; Ctrl-C forgets it, Ctrl-D ends."""
        while True:
            typed: list[str] = []
            try:
                typed.append(self._read_line(f"{self._session.model}> "))
                while typed[-1].endswith("\\"):
                    typed[-1] = typed[-1][:-1]
                    typed.append(self._read_line("... "))
            except KeyboardInterrupt:
                print()
                continue
            except EOFError:
                print()
                return
            yield "\n".join(typed)

    def _say(self, question: str) -> None:
        show = TerminalShow()
        with _told():
            try:
                show.begin()
                self._runner.run(self._session.say(question, show))
            finally:
                show.end()
                answer = self._session.answer
                if self._session.num_forgotten:
                    note(f"({self._session.num_forgotten} of the oldest exchanges no longer fit, and were left out)")
                if answer.finish_reason == "length":
                    note("(cut: it has all the tokens that it may have)")
                if self._shows_stats:
                    note(stats(answer))

    def _perform(self, command: Command) -> None:
        session, argument = self._session, command.argument
        match command.name:
            case "model" if argument:
                self._runner.run(session.switch(argument))
            case "model":
                note(", ".join(self._runner.run(session.models())))
            case "clear":
                session.conversation.clear()
            case "system":
                session.conversation.system = argument
            case "stats":
                self._shows_stats = not self._shows_stats
            case "help":
                note(HELP)
            case "quit":
                raise AssertionError("the loop ends with it")
            case never:
                assert_never(never)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What fails, or is stopped, is said in a line."""
    try:
        yield
    except KeyboardInterrupt:
        note("(stopped)")
    except KottosError as error:
        note(f"kottos: {error}")


def converse(address: Address, model: str, asked: Asked, system: str, *, shows_stats: bool) -> None:
    """Until the person leaves. Raises Unreachable, and Answered where there is no such model."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # input() edits lines from now on, and knows earlier ones
    client = GatewayClient(address)
    with asyncio.Runner() as runner:
        runner.run(client.open())
        try:
            session = ChatSession(client, model, asked, system)
            runner.run(session.switch(model))
            Prompt(session, runner, input, shows_stats=shows_stats).run()
        finally:
            runner.run(client.close())
