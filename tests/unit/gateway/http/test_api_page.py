"""docs/api.md says something of every route and of every parameter, and calls nothing supported that is not there."""

import re
from pathlib import Path

import msgspec
import pytest

from gateway.http.admin.log_level import LogLevelChange
from gateway.http.admin.models import ModelPatch, NewModel
from gateway.http.anthropic.request import CountTokensRequest, MessagesRequest
from gateway.http.openai.chat import ChatRequest
from gateway.http.openai.completions import CompletionRequest
from gateway.http.openai.embeddings import EmbeddingsRequest
from gateway.http.operations import OPERATIONS
from gateway.http.responses_api.request import ResponsesRequest
from gateway.http.tokenize import DetokenizeRequest, TokenizeRequest

PAGE = (Path(__file__).parents[4] / "docs/api.md").read_text()
SECTIONS: list[tuple[type[msgspec.Struct], tuple[str, ...]]] = [
    (ChatRequest, ("Chat and completions", "Chat only")),
    (CompletionRequest, ("Chat and completions", "Completions only")),
    (ResponsesRequest, ("Responses",)),
    (MessagesRequest, ("Messages",)),
    (CountTokensRequest, ("Messages",)),
    (TokenizeRequest, ("Tokens",)),
    (DetokenizeRequest, ("Tokens",)),
    (EmbeddingsRequest, ("Tokens",)),
    (NewModel, ("Administration",)),
    (ModelPatch, ("Administration",)),
    (LogLevelChange, ("Administration",)),
]


def section(title: str) -> str:
    """Up to the next heading."""
    [found] = re.findall(rf"^#+ {title}\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return found


def named(text: str) -> set[str]:
    return set(re.findall(r"`([a-z_0-9]+)`", text))


def supported(text: str) -> set[str]:
    """Parameters of rows that say so."""
    rows = re.findall(r"^\| ([^|]*) \| (?:yes|refused)", text, re.MULTILINE)
    return named("\n".join(rows))


def test_every_request_is_in_a_section() -> None:
    requests = {operation.request for operation in OPERATIONS if operation.request is not None}
    assert requests == {struct for struct, _ in SECTIONS}


@pytest.mark.parametrize(("struct", "titles"), SECTIONS, ids=lambda value: getattr(value, "__name__", ""))
def test_every_parameter_has_a_word(struct: type[msgspec.Struct], titles: tuple[str, ...]) -> None:
    assert set(struct.__struct_fields__) - named("".join(map(section, titles))) == set()


@pytest.mark.parametrize("title", sorted({title for _, titles in SECTIONS for title in titles}))
def test_what_counts_as_known_is_a_parameter(title: str) -> None:
    structs = [struct for struct, titles in SECTIONS if title in titles]
    fields = {field for struct in structs for field in struct.__struct_fields__}
    assert supported(section(title)) - fields == set()


def test_every_route_has_a_word() -> None:
    routes = section("Routes")
    assert [operation.path for operation in OPERATIONS if operation.path not in routes] == []
