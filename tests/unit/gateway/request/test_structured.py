from typing import Any

import msgspec
import pytest

from gateway.request import structured
from gateway.request.structured import MAX_BYTES, MAX_CHOICES, constraint
from shared.errors import ErrorCode, RequestError
from shared.messages import GenerationParams
from shared.structured import StructuredOutputs

SCHEMA = {"type": "object", "properties": {"b": {"type": "integer"}, "a": {"enum": ["x"]}}}


def params(**fields: Any) -> GenerationParams:
    """As a client's JSON says it."""
    return msgspec.json.decode(msgspec.json.encode(fields), type=GenerationParams)


def refusal(**fields: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        constraint(params(**fields))
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    return caught.value


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth - 1):
        schema = {"not": schema}
    return schema


@pytest.mark.parametrize("fields", [{}, {"response_format": {"type": "text"}}, {"structured_outputs": {}}])
def test_nothing_is_asked_for(fields: dict[str, Any]) -> None:
    assert constraint(params(**fields)) is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        (
            {"response_format": {"type": "json_schema", "json_schema": {"strict": True, "schema": SCHEMA}}},
            "response_format.json_schema.schema",
        ),
        ({"structured_outputs": {"json": SCHEMA}}, "structured_outputs.json"),
        ({"structured_outputs": {"json": msgspec.json.encode(SCHEMA).decode()}}, "structured_outputs.json"),
    ],
)
def test_a_schema_keeps_the_order_of_its_properties_and_gets_bounded_whitespace(
    fields: dict[str, Any], param: str
) -> None:
    asked = constraint(params(**fields))
    assert asked is not None
    assert (asked.kind, asked.param) == ("json", param)
    schema = msgspec.json.decode(asked.text)
    assert list(schema["properties"]) == ["b", "a"]
    assert schema.pop("x-guidance")["whitespace_flexible"] is False
    assert schema == SCHEMA


def test_a_client_does_not_choose_how_much_whitespace_there_may_be() -> None:
    asked = constraint(params(structured_outputs={"json": {"x-guidance": {"whitespace_pattern": " *"}}}))
    assert asked is not None
    assert "whitespace_pattern" not in asked.text


@pytest.mark.parametrize(
    "fields", [{"response_format": {"type": "json_object"}}, {"structured_outputs": {"json_object": True}}]
)
def test_any_json_object(fields: dict[str, Any]) -> None:
    asked = constraint(params(**fields))
    assert asked is not None
    assert msgspec.json.decode(asked.text)["type"] == "object"


def test_other_kinds_go_as_they_are() -> None:
    def kind_and_text(**given: Any) -> tuple[str, str]:
        asked = constraint(params(structured_outputs=given))
        assert asked is not None
        return asked.kind, asked.text

    assert kind_and_text(regex=r"\d+") == ("regex", r"\d+")
    assert kind_and_text(grammar="start: /a/") == ("grammar", "start: /a/")
    assert kind_and_text(choice=["yes", 'n"o']) == ("choice", r'["yes","n\"o"]')


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"structured_outputs": {"json": "{"}}, "structured_outputs.json"),
    ({"structured_outputs": {"json": "true"}}, "structured_outputs.json"),
    ({"structured_outputs": {"json": nested(65)}}, "structured_outputs.json"),
    ({"structured_outputs": {"json": {"const": "x" * MAX_BYTES}}}, "structured_outputs.json"),
    ({"structured_outputs": {"regex": "ü" * (MAX_BYTES // 2 + 1)}}, "structured_outputs.regex"),
    ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
    ({"structured_outputs": {"choice": ["a", ""]}}, "structured_outputs.choice"),
    ({"structured_outputs": {"choice": ["a"] * (MAX_CHOICES + 1)}}, "structured_outputs.choice"),
    ({"structured_outputs": {"choice": ["a"], "regex": "a"}}, "structured_outputs.choice"),
    ({"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}}, "structured_outputs.regex"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED)
def test_refusals_name_the_parameter(fields: dict[str, Any], param: str) -> None:
    error = refusal(**fields)
    assert error.param == param
    assert len(error.message) < 400


def test_the_ends_of_the_ranges_are_allowed() -> None:
    assert constraint(params(structured_outputs={"json": nested(64)})) is not None
    assert constraint(params(structured_outputs={"regex": "a" * MAX_BYTES})) is not None
    assert constraint(params(structured_outputs={"choice": ["a"] * MAX_CHOICES})) is not None


def test_whitespace_of_a_schema_inside_a_grammar_is_bounded_likewise() -> None:
    assert structured.one_line({"type": "object"})["x-guidance"]["item_separator"] == ", ?"


def test_what_json_cannot_say_is_refused() -> None:
    """Such a schema comes over the bus."""
    with pytest.raises(RequestError) as caught:
        constraint(GenerationParams(structured_outputs=StructuredOutputs(json={"const": msgspec.msgpack.Ext(5, b"")})))
    assert caught.value.param == "structured_outputs.json"
