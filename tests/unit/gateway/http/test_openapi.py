"""The description of the API: complete, and what it says of bounds is what the checks do."""

from typing import Any

import msgspec
import pytest

from gateway.http.docs_page import render
from gateway.http.errors import TABLE
from gateway.http.openapi import BOUNDS, document
from gateway.http.operations import OPERATIONS
from gateway.request.params import check
from shared.errors import RequestError
from shared.messages import GenerationParams

DOCUMENT = document(OPERATIONS)
FIELDS = {field.name: field for field in msgspec.structs.fields(GenerationParams)}


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if "$ref" in value else set()
        return own.union(*(references(inner) for inner in value.values()))
    return set().union(*map(references, value)) if isinstance(value, list | tuple) else set()


def test_every_reference_leads_somewhere_and_every_schema_is_used() -> None:
    names = {reference.removeprefix("#/components/schemas/") for reference in references(DOCUMENT)}
    assert names == set(DOCUMENT["components"]["schemas"])


def test_operations_have_ids_of_their_own() -> None:
    ids = [operation["operationId"] for methods in DOCUMENT["paths"].values() for operation in methods.values()]
    assert len(ids) == len(set(ids)) == len(OPERATIONS)


def test_generation_can_fail_with_every_status_of_the_table() -> None:
    responses = DOCUMENT["paths"]["/v1/chat/completions"]["post"]["responses"]
    named = {"409"}  # by the operations that it is about
    assert {str(shown.status) for shown in TABLE.values()} - named | {"200"} == set(responses)
    load = DOCUMENT["paths"]["/admin/models/{model}/load"]["post"]
    assert "409" in load["responses"]
    assert [(each["name"], each["required"]) for each in load["parameters"]] == [("model", True), ("worker", False)]
    assert "Retry-After" in responses["429"]["headers"]
    assert "529" in DOCUMENT["paths"]["/v1/messages"]["post"]["responses"]


@pytest.mark.parametrize("name", BOUNDS)
def test_bounds_are_those_of_the_checks(name: str) -> None:
    step = 1 if int in FIELDS[name].type.__args__ else 1e-9  # of X | None
    bound = BOUNDS[name]
    inside = [bound[key] for key in ("minimum", "maximum") if key in bound]
    outside = [bound["minimum"] - step] if "minimum" in bound else [bound["exclusiveMinimum"]]
    outside += [bound["maximum"] + step] if "maximum" in bound else []
    for value in inside:
        check(GenerationParams(**{name: value}))
    for value in outside:
        with pytest.raises(RequestError):
            check(GenerationParams(**{name: value}))


def test_the_page_shows_every_route_and_schema_without_scripts_or_foreign_assets() -> None:
    page = render(DOCUMENT)
    assert all(operation.path in page for operation in OPERATIONS)
    assert all(f'id="{name}"' in page for name in DOCUMENT["components"]["schemas"])
    assert not any(loader in page for loader in ("<script", "<link", "<img", "src=", "url(", "@import"))
