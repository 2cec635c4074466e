"""GET /openapi.json: the API as OpenAPI 3.2 describes it, made of the structs that bodies are decoded into and encoded
from, so that it can't say anything else. Which routes there are is in gateway/http/operations.py."""

import importlib.metadata
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Literal

import msgspec

from gateway.http.anthropic.errors import ErrorBody as AnthropicErrorBody
from gateway.http.anthropic.errors import status_of as anthropic_status_of
from gateway.http.errors import TABLE, ErrorBody
from shared.slo import MAX_PRIORITY, MAX_TBT_S, MAX_TTFT_S, MIN_S

Schema = dict[str, Any]
JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"
_REF: Final = "#/components/schemas/{name}"
_AGAIN: Final = frozenset({429, 503, 529})  # say when to come again
_NAMED: Final = frozenset({409})  # of what an operation does: it says so itself
_WITHOUT_BODY: Final = frozenset({401, 403, 404, 429, 500, 503})  # what a request without a body can be answered
# Of numbers that are checked when the body has been decoded (gateway/request/params.py).
BOUNDS: Final[dict[str, Schema]] = {
    "temperature": {"minimum": 0, "maximum": 2},
    "top_p": {"exclusiveMinimum": 0, "maximum": 1},
    "top_k": {"minimum": -1},
    "min_p": {"minimum": 0, "maximum": 1},
    "presence_penalty": {"minimum": -2, "maximum": 2},
    "frequency_penalty": {"minimum": -2, "maximum": 2},
    "repetition_penalty": {"exclusiveMinimum": 0, "maximum": 2},
    "seed": {"minimum": -(2**63), "maximum": 2**63 - 1},
    "max_tokens": {"minimum": 1},
    "min_tokens": {"minimum": 0},
    "ttft_s": {"minimum": MIN_S, "maximum": MAX_TTFT_S},
    "tbt_s": {"minimum": MIN_S, "maximum": MAX_TBT_S},
    "priority": {"minimum": -MAX_PRIORITY, "maximum": MAX_PRIORITY},
}
_REQUEST_ID: Final = {"description": "The client's, or a new one.", "schema": {"type": "string"}}
_RETRY_AFTER: Final = {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A method of a route. Types are msgspec's; None: no such body."""

    method: Literal["get", "post", "put", "patch", "delete"]
    path: str  # as aiohttp's router has it, without patterns
    summary: str
    tag: str
    request: Any = None
    response: Any = None  # of success, as JSON
    status: int = 200  # of success
    content: Mapping[str, Schema] | None = None  # of success, where it is something else
    events: Any = None  # each `data` of a stream, where there is one
    more: Mapping[int, Any] | None = None  # further statuses, and their bodies
    query: tuple[str, ...] = ()  # names of parameters, none of which has to be given
    is_anthropic: bool = False

    @property
    def errors(self) -> frozenset[int]:
        status_of = anthropic_status_of if self.is_anthropic else lambda code: TABLE[code].status
        every = frozenset(map(status_of, TABLE)) - _NAMED
        return every if self.request is not None else every & _WITHOUT_BODY


def document(operations: Iterable[Operation]) -> Schema:
    every = list(operations)
    types = [body for operation in every for body in _types(operation)]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    schema_of = dict(zip(map(repr, types), schemas, strict=True))  # types of annotations need not be hashable
    for name in {_component(schema_of[repr(operation.request)]) for operation in every if operation.request}:
        _add_bounds(components[name])
    paths: dict[str, Schema] = {}
    for operation in every:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, schema_of)
    return {
        "openapi": "3.2.0",
        "info": {
            "title": "Kottos",
            "version": importlib.metadata.version("kottos"),
            "description": "Many language models behind one address, in OpenAI's, Anthropic's and vLLM's terms.",
        },
        "security": [{}, {"bearer": []}, {"apiKey": []}],  # none where the gateway has no keys
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _types(operation: Operation) -> list[Any]:
    error = AnthropicErrorBody if operation.is_anthropic else ErrorBody
    bodies = [operation.request, operation.response, operation.events, *(operation.more or {}).values(), error]
    return [body for body in bodies if body is not None]


def _component(schema: Schema) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _add_bounds(component: Schema) -> None:
    """Of parameters that are checked when the body has been decoded."""
    for name, schema in component["properties"].items():
        for choice in schema.get("anyOf", [schema]):
            if choice.get("type") in ("number", "integer"):
                choice.update(BOUNDS.get(name, {}))


def _operation(operation: Operation, schema_of: Mapping[str, Schema]) -> Schema:
    error = AnthropicErrorBody if operation.is_anthropic else ErrorBody
    described: Schema = {
        "operationId": "_".join([operation.method, *re.findall(r"\w+", operation.path)]),
        "summary": operation.summary,
        "tags": [operation.tag],
        "responses": {str(operation.status): _response(operation, schema_of)},
    }
    if operation.request is not None:
        body = {JSON: {"schema": schema_of[repr(operation.request)]}}
        described["requestBody"] = {"required": True, "content": body}
    in_path = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    parameters = [_parameter(name, "path") for name in in_path]
    parameters += [_parameter(name, "query") for name in operation.query]
    if parameters:
        described["parameters"] = parameters
    for status, body in (operation.more or {}).items():
        described["responses"][str(status)] = _json(schema_of[repr(body)], status)
    for status in sorted(operation.errors):
        described["responses"].setdefault(str(status), _json(schema_of[repr(error)], status))
    return described


def _parameter(name: str, place: Literal["path", "query"]) -> Schema:
    return {"name": name, "in": place, "required": place == "path", "schema": {"type": "string", "minLength": 1}}


def _response(operation: Operation, schema_of: Mapping[str, Schema]) -> Schema:
    content: dict[str, Schema] = dict(operation.content or {})
    if operation.response is not None:
        content[JSON] = {"schema": schema_of[repr(operation.response)]}
    if operation.events is not None:
        data = {"type": "string", "contentMediaType": JSON, "contentSchema": schema_of[repr(operation.events)]}
        content[EVENTS] = {"itemSchema": {"type": "object", "properties": {"event": {"type": "string"}, "data": data}}}
    return {"description": "OK", "headers": {"X-Request-Id": _REQUEST_ID}, "content": content}


def _json(schema: Schema, status: int) -> Schema:
    headers = {"X-Request-Id": _REQUEST_ID} | ({"Retry-After": _RETRY_AFTER} if status in _AGAIN else {})
    return {
        "description": _DESCRIPTIONS.get(status) or HTTPStatus(status).phrase,
        "headers": headers,
        "content": {JSON: {"schema": schema}},
    }


_DESCRIPTIONS: Final = {
    400: "The request is malformed, out of range, or not supported.",
    401: "The API key is missing or unknown.",
    403: "The API key may not do this.",
    404: "There is no such model, or no such route.",
    409: "It conflicts with how things are now.",
    413: "The body is too large.",
    429: "Too much is asked at once, or of this key.",
    500: "The server's fault.",
    503: "It can't be served just now.",
    529: "Queues are full.",
}
