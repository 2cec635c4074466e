"""Messages that nobody would send: random bytes, well-formed messages cut or changed, and absurd values throughout."""

import math
import random
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import inspect

from shared.messages import Message

INTS: Final = (0, 1, -1, 2, 7, 255, 1 << 31, -(1 << 31), (1 << 53) + 1, (1 << 63) - 1, -(1 << 63), (1 << 64) - 1)
FLOATS: Final = (0.0, -0.0, 1.0, -1.0, 1e-300, 1e300, math.inf, -math.inf, math.nan)
TEXTS: Final = ("", " ", "x", ".", "*", ">", "a.b.>", "\x00", "\r\n", "=2E", "ü" * 50, "😀", "x" * 5_000)


class Absurd:
    """Draws from a seed; `texts` are ids that mean something to who receives it."""

    def __init__(self, seed: int, texts: Sequence[str] = ()) -> None:
        self._draw = random.Random(seed)
        self._texts = (*TEXTS, *texts, *texts)

    def payload(self, kinds: Sequence[type[Message]]) -> bytes:
        """A tenth of them is noise, a tenth is damaged."""
        draw = self._draw
        fate = draw.random()
        if fate < 0.1:
            return draw.randbytes(draw.choice((0, 1, 10, 1000)))
        payload = msgspec.msgpack.encode(self.value(inspect.type_info(draw.choice(kinds))))
        if fate < 0.15:
            return payload[: draw.randrange(len(payload) + 1)]
        if fate < 0.2:
            at = draw.randrange(len(payload))
            return payload[:at] + draw.randbytes(1) + payload[at + 1 :]
        return payload

    def value(self, kind: inspect.Type) -> object:
        """Of the right type, bounds apart."""
        draw = self._draw
        match kind:
            case inspect.IntType():
                return draw.choice(INTS)
            case inspect.FloatType():
                return draw.choice(FLOATS)
            case inspect.StrType():
                return draw.choice(self._texts)
            case inspect.BoolType():
                return draw.random() < 0.5
            case inspect.BytesType():
                return draw.randbytes(draw.randrange(20))
            case inspect.AnyType():
                return draw.choice((None, True, -1, math.nan, "x", [[]], {"x": [{}]}))
            case inspect.NoneType():
                return None
            case inspect.LiteralType(values=choices):
                return draw.choice(choices)
            case inspect.EnumType(cls):
                return draw.choice(list(cls)).value
            case inspect.UnionType(types):
                return self.value(draw.choice(types))
            case inspect.TupleType(types):
                return [self.value(each) for each in types]
            case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
                return [self.value(item) for _ in range(draw.choice((0, 1, 2, 20)))]
            case inspect.DictType(key_type=key, value_type=value):
                entries: dict[object, object] = {}
                for _ in range(draw.choice((0, 1, 5))):
                    entries[self.value(key)] = self.value(value)
                return entries
            case inspect.StructType(array_like=is_array, tag=tag, fields=fields, tag_field=tag_field):
                values = {field.encode_name: self.value(field.type) for field in fields}
                if is_array:
                    return list(values.values()) if tag is None else [tag, *values.values()]
                return values if tag_field is None else values | {tag_field: tag}
            case _:
                raise NotImplementedError(type(kind).__name__)
