"""Real matchers over tiny tokenizers: whatever is drawn from their masks, the text matches."""

import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from llguidance import LLExecutor
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask_par
from tokenizers import Tokenizer

from gateway.request.structured import one_line
from gpu_worker.guidance.grammars import Grammars
from gpu_worker.guidance.guide import Guide
from shared.errors import GrammarError
from shared.grammar import to_grammar
from tests.schemas import make_schema
from tests.unit.gateway.tiny_models import byte_fallback, byte_level

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 6}, "size": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["name", "size"],
    "additionalProperties": False,
}
GRAMMARS = {
    "json": to_grammar("json", json.dumps(SCHEMA)),
    "regex": to_grammar("regex", r"(ab|cd){2,4}/[0-9]+"),
    "choice": to_grammar("choice", json.dumps(["yes", "yesterday", 'a "b"\n', "日本"])),
    "lark": to_grammar("grammar", 'start: "(" (start | /[a-c]/) ")"'),
    "gbnf": to_grammar("grammar", 'root ::= "x" [a-c]+ "y"'),
}


def is_json(text: str) -> bool:
    said = json.loads(text)
    return set(said) == {"name", "size"} and len(said["name"]) <= 6 and 0 <= said["size"] <= 9


MATCHES: dict[str, Callable[[str], object]] = {
    "json": is_json,
    "regex": lambda text: re.fullmatch(r"(ab|cd){2,4}/[0-9]+", text),
    "choice": lambda text: text in ("yes", "yesterday", 'a "b"\n', "日本"),
    "lark": lambda text: re.fullmatch(r"\(+[a-c]\)+", text) and text.count("(") == text.count(")"),
    "gbnf": lambda text: re.fullmatch(r"x[a-c]+y", text),
}


class Model:
    """A tokenizer, and an end token."""

    def __init__(self, tokenizer: Tokenizer, folder: Path) -> None:
        tokenizer.save(str(folder / "tokenizer.json"))
        self.tokenizer = tokenizer
        self.grammars = Grammars(folder)
        self.eos_id: int = tokenizer.token_to_id("<eos>")  # type: ignore[assignment]
        self._executor = LLExecutor(num_threads=1)

    def allowed(self, guide: Guide, stop_ids: Sequence[int]) -> list[int]:
        mask = allocate_token_bitmask(1, guide.num_ids)
        fill_next_token_bitmask_par(self._executor, [(guide.matcher, 0)], mask)  # type: ignore[list-item]
        guide.settle(mask.view(np.uint32)[0], stop_ids, may_stop=True)
        return np.flatnonzero(np.unpackbits(mask.view(np.uint8)[0], bitorder="little")).tolist()

    def text(self, token_ids: Sequence[int]) -> str:
        """As the worker's tokens come out: nothing is stripped of a beginning."""
        marked = [*self.tokenizer.encode("a", add_special_tokens=False).ids, *token_ids]
        return self.tokenizer.decode(marked)[1:]


@pytest.fixture(params=[byte_level, byte_fallback], ids=["byte-level", "sentencepiece"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Model:
    return Model(request.param(), tmp_path)


def walk(model: Model, guide: Guide, rng: random.Random, *, ends: bool, num_tokens: int = 200) -> list[int] | None:
    """A random output; None where it did not end by itself."""
    output: list[int] = []
    stop_ids = [model.eos_id] if ends else []
    while len(output) < num_tokens:
        token_id = rng.choice(model.allowed(guide, stop_ids))
        is_stop = token_id in stop_ids
        if not guide.accept(token_id, is_stop=is_stop):
            assert not guide.failure
            return output
        if is_stop:
            return output
        output.append(token_id)
        if guide.is_complete:
            return output
    return None


@pytest.mark.parametrize("ends", [True, False], ids=["with end tokens", "without"])
@pytest.mark.parametrize("kind", GRAMMARS)
def test_whatever_is_drawn_the_text_matches(model: Model, kind: str, ends: bool) -> None:
    num_whole = 0
    for seed in range(30):
        output = walk(model, model.grammars.guide(GRAMMARS[kind], ()), random.Random(seed), ends=ends)
        if output is not None:
            assert MATCHES[kind](model.text(output)), model.text(output)
            num_whole += 1
    assert num_whole > (20 if ends or kind != "regex" else -1)  # without an end token its digits have no end


def test_outputs_of_many_schemas_are_valid(model: Model) -> None:
    num_whole = 0
    for seed in range(100):
        schema = make_schema(seed)
        guide = model.grammars.guide(to_grammar("json", json.dumps(one_line(schema))), ())
        if (output := walk(model, guide, random.Random(seed), ends=True)) is not None:
            jsonschema.validate(json.loads(model.text(output)), schema, format_checker=jsonschema.FormatChecker())
            num_whole += 1
    assert num_whole > 90  # a number may be written with very many digits


def test_a_guide_goes_on_where_the_output_leaves_off(model: Model) -> None:
    grammar = GRAMMARS["json"]
    output = walk(model, model.grammars.guide(grammar, ()), random.Random(1), ends=True)
    assert output
    told = model.grammars.guide(grammar, ())
    for num in range(len(output)):
        resumed = model.grammars.guide(grammar, output[:num])
        assert model.allowed(resumed, [model.eos_id]) == model.allowed(told, [model.eos_id])
        assert told.accept(output[num], is_stop=False)
    assert told.is_complete
    assert model.grammars.guide(grammar, output).is_complete


def test_an_output_of_another_grammar_is_refused(model: Model) -> None:
    output = model.tokenizer.encode("nothing", add_special_tokens=False).ids
    with pytest.raises(GrammarError, match="so far"):
        model.grammars.guide(GRAMMARS["json"], output)


def test_guides_of_one_grammar_do_not_share_where_they_are(model: Model) -> None:
    first, second = (model.grammars.guide(GRAMMARS["choice"], ()) for _ in range(2))
    before = model.allowed(second, ())
    first.accept(model.allowed(first, ())[0], is_stop=False)
    assert model.allowed(second, ()) == before


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("regex", "("),
        ("grammar", "start: nothing"),
        ("json", '{"type": "nothing"}'),
        ("json", '{"$ref": "https://example.org/schema"}'),
        ("json", '{"not": {}}'),
    ],
)
def test_what_cannot_be_compiled_says_why(model: Model, kind: str, text: str) -> None:
    with pytest.raises(GrammarError) as caught:
        model.grammars.guide(to_grammar(kind, text), ())  # type: ignore[arg-type]
    assert 0 < len(str(caught.value)) <= 400


def test_a_tokenizer_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(GrammarError, match="tokenizer"):
        Grammars(tmp_path).guide(GRAMMARS["json"], ())
