"""Which text an output has to be, out of all the ways to ask for it. One of them may be used."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from gateway.request.params import invalid
from shared.messages import GenerationParams
from shared.structured import GrammarKind, JsonSchema, ResponseFormat, StructuredOutputs

MAX_BYTES: Final = 64 << 10  # of what is asked for; it goes with the request to each worker that runs it
MAX_CHOICES: Final = 1024
_MAX_DEPTH: Final = 64  # of a schema, well below what parsers of JSON allow
# JSON in one line: a space after commas and colons is left to the model, and more can't be written, or whitespace
# could go on for ever.
_ONE_LINE: Final = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
_ANY_OBJECT: Final[JsonSchema] = {"type": "object"}


@dataclass(frozen=True, slots=True)
class Constraint:
    """To be compiled by a text process."""

    kind: GrammarKind
    text: str  # a JSON schema, a regular expression, a JSON list of choices, or a Lark or GBNF grammar
    param: str  # that asked for it


def constraint(params: GenerationParams) -> Constraint | None:
    """None: any text will do. Raises RequestError naming the parameter that can't be kept."""
    asked = [*_of_format(params.response_format), *_of_structured(params.structured_outputs)]
    if len(asked) > 1:
        names = " and ".join(one.param for one in asked)
        raise invalid(f"Only one of {names} may be given.", asked[1].param)
    if asked and len(asked[0].text.encode()) > MAX_BYTES:
        raise invalid(f"{asked[0].param} may have at most {MAX_BYTES} bytes.", asked[0].param)
    return asked[0] if asked else None


def one_line(schema: JsonSchema) -> JsonSchema:
    """The schema with what llguidance wants to know about whitespace."""
    return {**schema, "x-guidance": _ONE_LINE}


def _of_format(form: ResponseFormat | None) -> Iterator[Constraint]:
    if form is None or form.type == "text":
        return
    if form.type == "json_object":
        yield _json(_ANY_OBJECT, "response_format")
    elif form.json_schema is None:
        raise invalid("response_format of type json_schema needs a json_schema.", "response_format.json_schema")
    else:
        yield _json(form.json_schema.schema, "response_format.json_schema.schema")


def _of_structured(given: StructuredOutputs | None) -> Iterator[Constraint]:
    if given is None:
        return
    if given.json is not None:
        param = "structured_outputs.json"
        yield _json(_parsed(given.json, param) if isinstance(given.json, str) else given.json, param)
    if given.json_object:
        yield _json(_ANY_OBJECT, "structured_outputs.json_object")
    if given.regex is not None:
        yield Constraint("regex", given.regex, "structured_outputs.regex")
    if given.choice is not None:
        yield _choice(given.choice, "structured_outputs.choice")
    if given.grammar is not None:
        yield Constraint("grammar", given.grammar, "structured_outputs.grammar")


def _json(schema: JsonSchema, param: str) -> Constraint:
    if _depth(schema) > _MAX_DEPTH:
        raise invalid(f"{param} may be nested at most {_MAX_DEPTH} levels deep.", param)
    try:
        return Constraint("json", msgspec.json.encode(one_line(schema)).decode(), param)
    except TypeError as error:  # over the bus a schema may hold what JSON can't
        raise invalid(f"{param} can't be written as JSON: {str(error)[:200]}", param) from None


def _parsed(text: str, param: str) -> JsonSchema:
    try:
        return msgspec.json.decode(text, type=JsonSchema)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise invalid(f"{param} is not the JSON text of a schema: {str(error)[:200]}", param) from None


def _choice(choices: list[str], param: str) -> Constraint:
    if not 1 <= len(choices) <= MAX_CHOICES:
        raise invalid(f"{param} must have 1 to {MAX_CHOICES} texts, got {len(choices)}.", param)
    if not all(choices):
        raise invalid(f"Each text of {param} must have at least 1 character.", param)
    return Constraint("choice", msgspec.json.encode(choices).decode(), param)


def _depth(schema: Any) -> int:
    """Of lists and objects within each other; more than _MAX_DEPTH are not counted."""
    level, depth = [schema], 0
    while level and depth <= _MAX_DEPTH:
        nested = [v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list)]
        depth += bool(nested)
        level = [value for values in nested for value in values]
    return depth
