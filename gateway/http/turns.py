"""Messages of one role that follow each other, as one turn."""

from collections.abc import Iterable
from itertools import chain, groupby
from operator import attrgetter

from msgspec.structs import replace

from shared.messages import ChatMessage


def merged(messages: Iterable[ChatMessage], *roles: str) -> tuple[ChatMessage, ...]:
    """Runs of these roles are one message each, others stay as they are."""
    runs = ((role, list(run)) for role, run in groupby(messages, attrgetter("role")))
    return tuple(chain.from_iterable([_joined(run)] if role in roles else run for role, run in runs))


def _joined(run: list[ChatMessage]) -> ChatMessage:
    return replace(
        run[0],
        content="\n".join(message.content for message in run if message.content),
        tool_calls=tuple(chain.from_iterable(message.tool_calls for message in run)),
        reasoning="\n".join(message.reasoning for message in run if message.reasoning) or None,
    )
