"""A conversation with a model: asks, keeps what was said, and leaves out what no longer fits."""

import time
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from cli.chat.answer import Answer, Show, read_answer
from cli.chat.conversation import Conversation, Message
from cli.exit_codes import Answered
from cli.gateway_client import GatewayClient

_LEAST_ANSWER_TOKENS: Final = 256  # that an answer has room for, where the context is large enough
_LEAST_ANSWER_SHARE: Final = 4  # else this part of it
_NO_ROUTE: Final = frozenset({404, 405, 501})
_TOO_LONG: Final = "context_length_exceeded"


class _Model(msgspec.Struct, frozen=True):
    id: str
    state: str = ""


class _Models(msgspec.Struct, frozen=True):
    data: list[_Model]


class _Tokenized(msgspec.Struct, frozen=True):
    count: int
    max_model_len: int


@dataclass(frozen=True, slots=True)
class Asked:
    """What every question is asked with; None: as the model has it."""

    temperature: float | None = None
    max_tokens: int | None = None


class ChatSession:
    def __init__(self, client: GatewayClient, model: str, asked: Asked, system: str = "") -> None:
        self.model = model
        self.conversation = Conversation(system)
        self.answer = Answer()  # the last one
        self.num_forgotten = 0  # exchanges that the last question left out
        self._client = client
        self._asked = asked
        self._counts_tokens = True  # the server can

    async def models(self) -> list[str]:
        return [model.id for model in (await self._client.ask("GET", "/v1/models", _Models)).data]

    async def switch(self, model: str) -> None:
        """The conversation goes on with another model. Raises Answered where there is none."""
        if model not in (names := await self.models()):
            raise Answered(404, "model_not_found", f"there is no model {model!r}; there are: {', '.join(names)}")
        self.model = model

    async def say(self, question: str, show: Show) -> Answer:
        """An answer that is cancelled is kept as far as it came. Raises Unreachable, Answered."""
        self.answer = Answer()
        self.num_forgotten = 0
        await self._fit(question)
        try:
            while True:
                try:
                    await self._stream(self.conversation.messages(question), show)
                    break
                except Answered as error:
                    if error.code != _TOO_LONG or not self._forget_oldest():
                        raise
        finally:
            if self.answer.content:
                self.conversation.add(question, self.answer.content)
        return self.answer

    async def _stream(self, messages: list[Message], show: Show) -> None:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        body |= {} if self._asked.temperature is None else {"temperature": self._asked.temperature}
        body |= {} if self._asked.max_tokens is None else {"max_tokens": self._asked.max_tokens}
        asked_at_s = time.monotonic()
        async with self._client.stream("POST", "/v1/chat/completions", body) as events:
            await read_answer(events, self.answer, show, asked_at_s)

    async def _fit(self, question: str) -> None:
        """Leaves out the oldest exchanges until the context has room for an answer, by the server's own count."""
        while self._counts_tokens and self.conversation.exchanges:
            asked = {"model": self.model, "messages": self.conversation.messages(question)}
            try:
                told = await self._client.ask("POST", "/tokenize", _Tokenized, asked)
            except Answered as error:
                if error.status not in _NO_ROUTE or error.code:
                    raise
                self._counts_tokens = False  # no server of ours: it says when a prompt is too long
                return
            least = min(_LEAST_ANSWER_TOKENS, told.max_model_len // _LEAST_ANSWER_SHARE)
            if told.count + (self._asked.max_tokens or least) <= told.max_model_len or not self._forget_oldest():
                return

    def _forget_oldest(self) -> bool:
        self.num_forgotten += self.conversation.exchanges != []
        return self.conversation.forget_oldest()
