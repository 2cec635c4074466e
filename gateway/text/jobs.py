"""What the gateway and its text processes say to each other over pipes: length-prefixed msgpack.

gateway --Job--> process --Loaded, then a Result--> gateway
"""

from typing import Final

import msgspec

from shared.messages import ChatMessage, ChatOptions
from shared.structured import GrammarKind

HEADER_BYTES: Final = 4  # big-endian length of what follows


class _Tagged(msgspec.Struct, frozen=True, array_like=True, tag=True):
    pass


class Render(_Tagged, frozen=True):
    folder: str  # of the model in the catalogue
    messages: tuple[ChatMessage, ...]
    options: ChatOptions = ChatOptions()


class Encode(_Tagged, frozen=True):
    folder: str
    text: str
    add_special_tokens: bool
    max_tokens: int
    with_tokens: bool = False


class Decode(_Tagged, frozen=True):
    folder: str
    token_ids: tuple[int, ...]


class Spell(_Tagged, frozen=True):
    folder: str


class Constrain(_Tagged, frozen=True):
    """Compile a grammar for the model's tokenizer."""

    folder: str
    kind: GrammarKind
    text: str


class Loaded(_Tagged, frozen=True):
    """The model's tokenizer is there; the job itself begins now."""


class Rendered(_Tagged, frozen=True):
    text: str


class Encoded(_Tagged, frozen=True):
    token_ids: tuple[int, ...]
    tokens: tuple[str, ...] = ()  # with_tokens: as the tokenizer writes them


class Decoded(_Tagged, frozen=True):
    text: str  # with the special tokens


class TooLong(_Tagged, frozen=True):
    num_tokens: int


class Spelled(_Tagged, frozen=True):
    """All tokens, as the model's tokenizer writes them before its decoder makes text of them."""

    texts: bytes  # UTF-8, by ascending id; empty: there is no token of this id
    ends: bytes  # uint32 each, native: where in `texts` a token ends
    special_ids: tuple[int, ...]
    decoder: str  # JSON, as in tokenizer.json
    chat_template: str = ""  # that is used with tools, where there are several


class Constrained(_Tagged, frozen=True):
    grammar: str  # llguidance's


class Failed(_Tagged, frozen=True):
    message: str  # for the client


TextJob = Render | Encode | Decode | Spell
Job = TextJob | Constrain
Result = Rendered | Encoded | TooLong | Decoded | Spelled | Constrained | Failed
Reply = Loaded | Result

job_decoder: Final = msgspec.msgpack.Decoder(Job)
reply_decoder: Final[msgspec.msgpack.Decoder[Reply]] = msgspec.msgpack.Decoder(Reply)
_encoder: Final = msgspec.msgpack.Encoder()


def pack(message: Job | Reply) -> bytes:
    payload = _encoder.encode(message)
    return len(payload).to_bytes(HEADER_BYTES, "big") + payload
