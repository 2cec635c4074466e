"""JSON schemas as a seed wants them: what clients write, small enough that a tiny model fills them quickly."""

import random
from collections.abc import Callable
from typing import Any, Final

Schema = dict[str, Any]

_NAMES: Final = ("name", "city", "age", "tags", "price", "status", "owner", "notes", "size", "kind")
_WORDS: Final = ("red", "green", "Blue sky", "naïve", "a/b", "x_1", "42", 'say "hi"')
_MAX_DEPTH: Final = 3


def make_schema(seed: int) -> Schema:
    """An object whose properties may be objects and arrays again. Every value that it allows is short."""
    return _object(random.Random(seed), 1)


def _object(rng: random.Random, depth: int) -> Schema:
    names = rng.sample(_NAMES, rng.randint(1, 4 - depth))
    properties = {name: _value(rng, depth + 1) for name in names}
    required = [name for name in names if rng.random() < 0.8]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _array(rng: random.Random, depth: int) -> Schema:
    least = rng.randint(0, 1)
    return {"type": "array", "items": _value(rng, depth + 1), "minItems": least, "maxItems": least + 1}


def _value(rng: random.Random, depth: int) -> Schema:
    kinds = _LEAVES if depth > _MAX_DEPTH else (*_LEAVES, *_CONTAINERS)
    return rng.choice(kinds)(rng, depth)


def _any_of(rng: random.Random, depth: int) -> Schema:
    return {"anyOf": [{"type": "null"}, _value(rng, depth + 1)]}


def _enum(rng: random.Random, depth: int) -> Schema:
    return {"enum": rng.sample((*_WORDS, 1, 2.5, True, None), rng.randint(2, 5))}


def _const(rng: random.Random, depth: int) -> Schema:
    return {"const": rng.choice(_WORDS)}


def _integer(rng: random.Random, depth: int) -> Schema:
    least = rng.randint(-500, 500)
    return {"type": "integer", "minimum": least, "exclusiveMaximum": least + rng.randint(1, 900)}


def _number(rng: random.Random, depth: int) -> Schema:
    least = rng.randint(-50, 50)
    return {"type": "number", "minimum": least + 0.5, "maximum": least + rng.randint(1, 90), "multipleOf": 0.25}


def _string(rng: random.Random, depth: int) -> Schema:
    least = rng.randint(0, 3)
    return {"type": "string", "minLength": least, "maxLength": least + rng.randint(0, 8)}


def _pattern(rng: random.Random, depth: int) -> Schema:
    return {"type": "string", "pattern": rng.choice((r"^[A-Z]{2}-[0-9]{1,3}$", r"^(ab|cd){1,4}x?$", r"^#[0-9a-f]{6}$"))}


def _format(rng: random.Random, depth: int) -> Schema:
    return {"type": "string", "format": rng.choice(("date", "ipv4"))}


def _boolean(rng: random.Random, depth: int) -> Schema:
    return {"type": "boolean"}


_CONTAINERS: Final = (_object, _array, _object, _array, _any_of)
_LEAVES: Final[tuple[Callable[[random.Random, int], Schema], ...]] = (
    _enum, _const, _integer, _number, _string, _pattern, _format, _boolean,
)  # fmt: skip
