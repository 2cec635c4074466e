"""One question and its answer, for scripts."""

import sys

import msgspec

from cli.chat.answer import Answer, Usage
from cli.chat.session import ChatSession
from cli.chat.show import PlainShow, Silent, TerminalShow, note, stats
from cli.output import print_json


class ShownAnswer(msgspec.Struct, frozen=True):
    """What `kottos chat --json` prints."""

    model: str
    content: str
    reasoning: str
    finish_reason: str | None
    usage: Usage | None  # null: the server does not say
    ttft_s: float | None
    tokens_per_s: float | None  # without the first one


async def say_once(session: ChatSession, question: str, *, as_json: bool, shows_stats: bool) -> None:
    """Raises Unreachable, Answered."""
    if as_json:
        print_json(shown(session.model, await session.say(question, Silent())))
        return
    if sys.stdout.isatty():
        await _show_on_terminal(session, question)
    else:
        try:
            await session.say(question, PlainShow())
        finally:
            print(flush=True)
    if shows_stats:
        note(stats(session.answer))


async def _show_on_terminal(session: ChatSession, question: str) -> None:
    show = TerminalShow()
    try:
        show.begin()
        await session.say(question, show)
    finally:
        show.end()


def shown(model: str, answer: Answer) -> ShownAnswer:
    return ShownAnswer(
        model,
        answer.content,
        answer.reasoning,
        answer.finish_reason,
        answer.usage,
        answer.ttft_s,
        answer.tokens_per_s,
    )
