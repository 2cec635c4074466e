"""Answers that have to call tools, as rules in llguidance's Lark (its docs/syntax.md).

Each call's arguments are a JSON schema of their own, so that references in it keep their meaning.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from gateway.output.vocabulary import Vocabulary
from gateway.request.lark import json_value, literal, marker
from gateway.tools.formats import ARGS, ToolFormat
from shared.messages import ChatOptions, Tool
from shared.structured import JsonSchema

_END: Final = literal("}")


def required_calls(form: ToolFormat, options: ChatOptions, vocabulary: Vocabulary) -> list[str]:
    """The rule `calls`, and what it needs: at least one call."""
    tools = [tool for tool in options.tools if options.tool_choice != "named" or tool.name == options.tool_name]
    is_single = options.tool_choice == "named" or not options.parallel_tool_calls or form.style == "bare"
    return [*_several(form, is_single, vocabulary), *_calls(form, tools, vocabulary)]


def _several(form: ToolFormat, is_single: bool, vocabulary: Vocabulary) -> Iterator[str]:
    opening = marker(form.openings[0], vocabulary)
    closing = marker(form.closing, vocabulary) if form.closing else ""
    match form.style:
        case "pairs":
            yield "calls: pair" if is_single else 'calls: pair ("\\n" pair)*'
            yield f'pair: {opening} "\\n" call "\\n" {closing}'
        case "list":
            more = "" if is_single else '(", " call)*'
            yield f'calls: {opening} " "? "[" call {more} "]" {closing}'  # Mistral's older models write the space
        case "heads":
            yield f"calls: {opening} call" if is_single else f"calls: ({opening} call)+"
        case "bare":
            yield "calls: call"


def _calls(form: ToolFormat, tools: list[Tool], vocabulary: Vocabulary) -> Iterator[str]:
    yield "call: " + " | ".join(f"call_{index}" for index in range(len(tools)))
    for index, tool in enumerate(tools):
        if form.style == "heads":
            yield f"call_{index}: {literal(tool.name)} {marker(ARGS, vocabulary)} arguments_{index}"
        else:
            head = f'{{"name": "{tool.name}", "{form.arguments_key}": '  # the name has nothing to escape
            yield f"call_{index}: {literal(head)} arguments_{index} {_END}"
        schema = msgspec.json.decode(tool.parameters, type=JsonSchema)
        yield f"arguments_{index}: {json_value({'type': 'object', **schema})}"
