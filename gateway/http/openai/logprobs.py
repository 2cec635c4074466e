"""Log-probabilities as OpenAI writes them, for chats and, in their older form, for completions."""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from gateway.output.detokenize import Detokenizer
from gateway.output.vocabulary import Vocabulary
from shared.messages import TokenLogprobs

LEAST_LOGPROB: Final = -9999.0  # OpenAI's, as JSON has no infinity


class TopLogprob(msgspec.Struct, frozen=True):
    token: str
    logprob: float
    bytes: tuple[int, ...]


class ChatLogprob(TopLogprob, frozen=True):
    top_logprobs: tuple[TopLogprob, ...] = ()


class ChatLogprobs(msgspec.Struct, frozen=True):
    content: tuple[ChatLogprob, ...]  # of all tokens, the end token among them
    refusal: None = None


class TextLogprobs(msgspec.Struct, frozen=True):
    """One entry per token in each list; a prompt's first token has no probability."""

    tokens: tuple[str, ...]
    token_logprobs: tuple[float | None, ...]
    top_logprobs: tuple[dict[str, float] | None, ...]
    text_offset: tuple[int, ...]  # in characters of the choice's text


class PromptLogprob(msgspec.Struct, frozen=True):
    """By vLLM's names."""

    logprob: float
    rank: int | None  # 1: the most likely one; null: it is none of those that were asked for
    decoded_token: str


PromptLogprobs = list[dict[int, PromptLogprob] | None]  # by token id; a prompt's first token has no probability


def chat_logprobs(tokens: Iterable[TokenLogprobs], vocabulary: Vocabulary) -> ChatLogprobs | None:
    """None: there are no tokens."""
    content = tuple(_chat_logprob(token, vocabulary) for token in tokens)
    return ChatLogprobs(content) if content else None


def prompt_logprobs(tokens: Iterable[TokenLogprobs], vocabulary: Vocabulary) -> PromptLogprobs:
    """Of a prompt's tokens from the second one on."""
    return [None, *(_prompt_logprob(token, vocabulary) for token in tokens)]


def _prompt_logprob(token: TokenLogprobs, vocabulary: Vocabulary) -> dict[int, PromptLogprob]:
    ranks = {token_id: rank for rank, token_id in enumerate(token.top_ids, 1)}
    said = {token.token_id: token.logprob} | dict(_top(token))  # its own comes first
    return {
        token_id: PromptLogprob(
            max(logprob, LEAST_LOGPROB), ranks.get(token_id), _name(vocabulary.token_bytes(token_id))
        )
        for token_id, logprob in said.items()
    }


def _chat_logprob(token: TokenLogprobs, vocabulary: Vocabulary) -> ChatLogprob:
    top = tuple(TopLogprob(*_spelled(i, logprob, vocabulary)) for i, logprob in _top(token))
    name, logprob, spelled = _spelled(token.token_id, token.logprob, vocabulary)
    return ChatLogprob(name, logprob, spelled, top)


def _spelled(token_id: int, logprob: float, vocabulary: Vocabulary) -> tuple[str, float, tuple[int, ...]]:
    spelled = vocabulary.token_bytes(token_id)
    return _name(spelled), max(logprob, LEAST_LOGPROB), tuple(spelled)


def _top(token: TokenLogprobs) -> Iterator[tuple[int, float]]:
    return zip(token.top_ids, token.top_logprobs, strict=True)


def _name(token: bytes, prefix: str = "") -> str:
    r"""As text, or `\xe2\x80` where it is a part of a character."""
    try:
        return token.decode()
    except UnicodeDecodeError:
        return prefix + "".join(f"\\x{byte:02x}" for byte in token)


def joined(first: TextLogprobs | None, then: TextLogprobs) -> TextLogprobs:
    if first is None:
        return then
    return TextLogprobs(
        first.tokens + then.tokens,
        first.token_logprobs + then.token_logprobs,
        first.top_logprobs + then.top_logprobs,
        first.text_offset + then.text_offset,
    )


class TextLog:
    """Writes the tokens of one choice of a completion, from its first on."""

    def __init__(self, vocabulary: Vocabulary, context: tuple[int, ...], echo: str = "") -> None:
        """context: tokens before the text's first one. echo: the prompt as the text begins with it."""
        self._vocabulary = vocabulary
        self._detokenizer = Detokenizer(vocabulary, context)
        self._echo = echo
        self._num_chars = 0  # of the text of the tokens so far
        self._names: dict[int, str] = {}  # there are many likely tokens, and few different ones

    def echoed(self, prompt: tuple[int, ...], logprobs: Iterable[TokenLogprobs]) -> TextLogprobs:
        """logprobs: of the prompt's tokens from the second one on."""
        first = TextLogprobs((self._named(prompt[0]),), (None,), (None,), (self._offset(prompt[0]),))
        return joined(first, self.written(logprobs))

    def written(self, logprobs: Iterable[TokenLogprobs]) -> TextLogprobs:
        entries = [self._entry(token) for token in logprobs]
        return TextLogprobs(*zip(*entries, strict=True)) if entries else TextLogprobs((), (), (), ())

    def _entry(self, token: TokenLogprobs) -> tuple[str, float, dict[str, float], int]:
        name, logprob = self._named(token.token_id), max(token.logprob, LEAST_LOGPROB)
        top = {name: logprob}  # always among them; of several tokens with one name the first stays
        for token_id, other in _top(token):
            top.setdefault(self._named(token_id), max(other, LEAST_LOGPROB))
        return name, logprob, top, self._offset(token.token_id)

    def _named(self, token_id: int) -> str:
        if (name := self._names.get(token_id)) is None:
            name = self._names[token_id] = _name(self._vocabulary.token_bytes(token_id), prefix="bytes:")
        return name

    def _offset(self, token_id: int) -> int:
        """Where the token's text begins, or the character that it is a part of."""
        offset = self._num_chars
        text = self._detokenizer.feed(token_id)
        if self._vocabulary.is_special(token_id):
            named = self._named(token_id)
            if self._echo.startswith(named, offset):  # the client wrote it
                text = named
        self._num_chars += len(text)
        return offset
