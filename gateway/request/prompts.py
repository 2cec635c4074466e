"""What a model is to go on from: a text, token ids or a chat, made into token ids by the text processes."""

from dataclasses import dataclass
from typing import Final

from gateway.fleet.models import Model
from gateway.request import params as checks
from gateway.request.chat_checks import check_chat
from gateway.request.structured import Constraint
from gateway.text.jobs import Encoded, TooLong
from gateway.text.pool import TextPool
from gateway.tracing.request_trace import RequestTrace, stage
from shared.errors import ErrorCode, RequestError
from shared.messages import ChatMessage, ChatOptions

_UNLIMITED: Final = 2**63 - 1
_DEFAULTS: Final = ChatOptions()


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Tokens:
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Chat:
    messages: tuple[ChatMessage, ...]
    options: ChatOptions = _DEFAULTS


Prompt = Text | Tokens | Chat


class Prompts:
    def __init__(self, texts: TextPool) -> None:
        self._texts = texts

    async def token_ids(
        self, model: Model, prompt: Prompt, context_length: int, trace: RequestTrace | None = None
    ) -> tuple[int, ...]:
        """At least one, and fewer than the context has. Raises RequestError."""
        match prompt:
            case Tokens(token_ids):
                checks.check_token_ids(token_ids, model.card.vocab_size)
                if len(token_ids) >= context_length:
                    raise checks.context_exceeded(context_length, len(token_ids))
            case Text(text):
                if not text:
                    raise checks.invalid("The prompt is empty.", "prompt")
                with stage(trace, "tokenize"):
                    token_ids = await self._encode(model, text, context_length, add_special_tokens=True)
            case Chat():
                with stage(trace, "render chat"):
                    text = await self._render(model, prompt)
                with stage(trace, "tokenize"):
                    token_ids = await self._encode(model, text, context_length, add_special_tokens=False)
        if not token_ids:
            raise checks.invalid("The prompt is empty.", "messages" if isinstance(prompt, Chat) else "prompt")
        return token_ids

    async def tokenize(
        self, model: Model, prompt: Text | Chat, *, add_special_tokens: bool, with_tokens: bool = False
    ) -> Encoded:
        """However many there are. Raises RequestError."""
        text = prompt.text if isinstance(prompt, Text) else await self._render(model, prompt)
        encoded = await self._texts.encode(
            model.folder,
            text,
            add_special_tokens=add_special_tokens,
            max_tokens=_UNLIMITED,
            with_tokens=with_tokens,
        )
        assert isinstance(encoded, Encoded)  # nothing is too long
        return encoded

    async def detokenize(self, model: Model, token_ids: tuple[int, ...]) -> str:
        """With the special tokens. Raises RequestError."""
        checks.check_token_ids(token_ids, model.card.vocab_size, "tokens")
        return await self._texts.decode(model.folder, token_ids)

    async def grammar(self, model: Model, asked: Constraint | None, trace: RequestTrace | None = None) -> str:
        """Of the output, as workers take it; empty: any will do. Raises RequestError."""
        if asked is None:
            return ""
        with stage(trace, "compile grammar"):
            return await self._texts.constrain(model.folder, asked.kind, asked.text, asked.param)

    async def _render(self, model: Model, chat: Chat) -> str:
        if not model.card.has_chat_template:
            raise RequestError(
                ErrorCode.NO_CHAT_TEMPLATE,
                f"The model {model.name!r} has no chat template; use /v1/completions instead.",
                param="messages",
            )
        check_chat(chat.messages, chat.options, model.dialect, model.name)
        return await self._texts.render(model.folder, chat.messages, chat.options)

    async def _encode(
        self, model: Model, text: str, context_length: int, *, add_special_tokens: bool
    ) -> tuple[int, ...]:
        """A rendered chat has its special tokens as text already."""
        encoded = await self._texts.encode(
            model.folder, text, add_special_tokens=add_special_tokens, max_tokens=context_length - 1
        )
        if isinstance(encoded, TooLong):
            raise checks.context_exceeded(context_length, encoded.num_tokens)
        return encoded.token_ids
