"""Token ids to text as the tokenizers library decodes them, without its tables.

The library holds the GIL while it reads a tokenizer.json (0.7 s and more for 262,144 entries), which would stall every
stream of the gateway. So a text process reads it, and what comes back is the tokens' texts, one after the other: they
are used where they lie, there is nothing to build.
"""

from collections.abc import Iterable
from typing import Final

from tokenizers import Tokenizer

from gateway.text.jobs import Spelled

_NO_TABLES: Final = (
    '{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,"pre_tokenizer":null,'
    '"post_processor":null,"decoder":%s,"model":{"type":"BPE","vocab":{},"merges":[]}}'
)


class Vocabulary:
    def __init__(self, spelled: Spelled) -> None:
        """Raises ValueError for a decoder that the library does not know."""
        self._texts = spelled.texts
        self._ends = memoryview(spelled.ends).cast("I")
        self._special_ids = frozenset(spelled.special_ids)
        try:
            self._decoder = Tokenizer.from_str(_NO_TABLES % spelled.decoder).decoder
        except Exception as error:  # the library has no class of its own for it
            raise ValueError(f"its decoder can't be read ({type(error).__name__})") from error

    def decode(self, token_ids: Iterable[int]) -> str:
        """Special tokens and ids without a token have no text."""
        tokens = [token for token_id in token_ids if (token := self._token(token_id))]
        return self._decoder.decode(tokens) if self._decoder is not None else " ".join(tokens)

    def _token(self, token_id: int) -> str:
        if token_id in self._special_ids or not 0 <= token_id < len(self._ends):
            return ""
        start = self._ends[token_id - 1] if token_id else 0
        return self._texts[start : self._ends[token_id]].decode()
