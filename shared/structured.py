"""What a client may ask its output to be. Sources: platform.openai.com/docs/api-reference/chat/create
(response_format); docs.vllm.ai/en/latest/features/structured_outputs (structured_outputs)."""

from typing import Any, Literal

import msgspec

JsonSchema = dict[str, Any]  # keywords to values; whoever compiles it says what is wrong with it
GrammarKind = Literal["json", "regex", "choice", "grammar"]  # of which everything below is one


class JsonSchemaFormat(msgspec.Struct, frozen=True, kw_only=True):
    schema: JsonSchema
    name: str | None = None
    description: str | None = None
    strict: bool | None = None  # the schema is always kept


class ResponseFormat(msgspec.Struct, frozen=True, kw_only=True):
    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: JsonSchemaFormat | None = None  # with json_schema


class StructuredOutputs(msgspec.Struct, frozen=True, kw_only=True):
    """One of these."""

    json: JsonSchema | str | None = None  # a JSON schema, or its text
    regex: str | None = None  # of the whole output, in Rust's syntax
    choice: list[str] | None = None
    grammar: str | None = None  # llguidance's Lark, or GBNF
    json_object: bool | None = None
