"""Token ids to text as the tokenizers library decodes them, without its tables.

The library holds the GIL while it reads a tokenizer.json (0.7 s and more for 262,144 entries), which would stall every
stream of the gateway. So a text process reads it, and what comes back is the tokens' texts, one after the other: they
are used where they lie, there is nothing to build.
"""

from bisect import bisect_left
from collections.abc import Container, Iterable
from typing import Final

from tokenizers import Tokenizer

from gateway.output.token_bytes import TokenBytes
from gateway.text.jobs import Spelled

_NO_TABLES: Final = (
    '{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,"pre_tokenizer":null,'
    '"post_processor":null,"decoder":%s,"model":{"type":"BPE","vocab":{},"merges":[]}}'
)


REPLACEMENT: Final = "\ufffd"  # what decoders make of bytes that are no character


class Vocabulary:
    def __init__(self, spelled: Spelled) -> None:
        """Raises ValueError for a decoder that the library does not know."""
        self._texts = spelled.texts
        self._ends = memoryview(spelled.ends).cast("I")
        self._special_ids = frozenset(spelled.special_ids)
        self._ids: dict[str, int | None] = {}  # of the few texts that were asked for
        self._plain: dict[int, str] = {}  # texts of those that were asked for; empty where they have none by themselves
        try:
            self._decoder = Tokenizer.from_str(_NO_TABLES % spelled.decoder).decoder
        except Exception as error:  # the library has no class of its own for it
            raise ValueError(f"its decoder can't be read ({type(error).__name__})") from error
        self._bytes = TokenBytes(spelled.decoder, self._text_of)

    def decode(self, token_ids: Iterable[int], shown_ids: Container[int] = ()) -> str:
        """Special tokens, but for those shown, and ids without a token have no text."""
        special = self._special_ids
        kept = [i for i in token_ids if i not in special or i in shown_ids]
        return self._text_of([token for i in kept if (token := self._token(i))])

    def plain(self, token_id: int) -> str:
        """What the token adds to any text that ends with a whole character; empty where that depends on the text."""
        if (text := self._plain.get(token_id)) is None:
            text = self.decode([token_id]) if self._bytes.are_joined else ""
            self._plain[token_id] = text = "" if REPLACEMENT in text else text
        return text

    def id_of(self, token: str) -> int | None:
        """Of the token that is written so; None: there is none. For the few texts that mean something by themselves."""
        if token not in self._ids:
            self._ids[token] = self._find(token.encode())
        return self._ids[token]

    def is_special(self, token_id: int) -> bool:
        return token_id in self._special_ids

    def token_bytes(self, token_id: int) -> bytes:
        """What the token adds to a text, not always UTF-8 by itself; a special one's name. Empty: there is none."""
        token = self._token(token_id)
        return token.encode() if token_id in self._special_ids else self._bytes.of(token) if token else b""

    def _text_of(self, tokens: list[str]) -> str:
        return self._decoder.decode(tokens) if self._decoder is not None else " ".join(tokens)

    def _token(self, token_id: int) -> str:
        """As the tokenizer writes it; empty: there is none."""
        if not 0 <= token_id < len(self._ends):
            return ""
        start = self._ends[token_id - 1] if token_id else 0
        return self._texts[start : self._ends[token_id]].decode()

    def _find(self, token: bytes) -> int | None:
        start = self._texts.find(token)
        while start >= 0:
            token_id = bisect_left(self._ends, start + len(token))
            begins = self._ends[token_id - 1] if token_id else 0
            if (begins, self._ends[token_id]) == (start, start + len(token)):
                return token_id
            start = self._texts.find(token, start + 1)
        return None
