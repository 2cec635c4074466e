from typing import Any

import msgspec
import pytest

from gateway.http.openai.completions import CompletionRequest, completion_decoder
from shared.errors import RequestError
from shared.structured import StructuredOutputs


def request(**fields: Any) -> CompletionRequest:
    return completion_decoder.decode(msgspec.json.encode({"model": "m", "prompt": "p", **fields}))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"guided_json": {"type": "object"}}, StructuredOutputs(json={"type": "object"})),
        ({"guided_json": '{"type": "object"}'}, StructuredOutputs(json='{"type": "object"}')),
        ({"guided_regex": "a+"}, StructuredOutputs(regex="a+")),
        ({"guided_choice": ["a", "b"]}, StructuredOutputs(choice=["a", "b"])),
        ({"guided_grammar": "start: /a/"}, StructuredOutputs(grammar="start: /a/")),
        ({"structured_outputs": {"regex": "a"}}, StructuredOutputs(regex="a")),
        ({"guided_json": None}, None),
        ({}, None),
    ],
)
def test_older_names_mean_the_same(old: dict[str, Any], new: StructuredOutputs | None) -> None:
    assert request(**old).call("id", 0.0).params.structured_outputs == new


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"guided_regex": "a", "structured_outputs": {"regex": "a"}}, "structured_outputs"),
        ({"structural_tag": {"structures": []}}, "structural_tag"),
    ],
)
def test_refusals(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        request(**fields).call("id", 0.0)
    assert caught.value.param == param
