"""Single tokens as bytes: not every token is text by itself, as a character may be spread over several."""

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

_BYTE: Final = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_ANCHOR: Final = "a"  # decoders take off what stands at a text's beginning: a token is looked at behind this one


def _byte_alphabet() -> dict[str, int]:
    """How byte-level tokenizers write bytes (GPT-2's encoder.py, bytes_to_unicode): printable ones as they are, the
    others by the characters from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_BYTE_OF: Final = _byte_alphabet()


class TokenBytes:
    """What an ordinary token of one tokenizer adds to a text."""

    def __init__(self, decoder: str, decode: Callable[[list[str]], str]) -> None:
        """decoder: JSON, as in tokenizer.json; decode: what it does with tokens as they are written there."""
        kinds = set(_kinds(msgspec.json.decode(decoder)))
        self.are_joined = kinds == {"ByteLevel"}  # a text is the bytes of its tokens, one after the other
        self._is_byte_level = "ByteLevel" in kinds
        self._has_single_bytes = "ByteFallback" in kinds
        self._decode = decode

    def of(self, token: str) -> bytes:
        if self._is_byte_level:
            known = [_BYTE_OF.get(char) for char in token]
            return token.encode() if None in known else bytes(byte for byte in known if byte is not None)
        if self._has_single_bytes and (single := _BYTE.fullmatch(token)):
            return bytes.fromhex(single.group(1))
        text = self._decode([_ANCHOR, token])
        return text[len(_ANCHOR) :].encode() if text.startswith(_ANCHOR) else token.encode()


def _kinds(decoder: Any) -> Iterator[str]:
    """Types of the decoder and of those that it is made of."""
    if isinstance(decoder, dict):
        yield str(decoder.get("type"))
        for part in decoder.get("decoders", ()):
            yield from _kinds(part)
