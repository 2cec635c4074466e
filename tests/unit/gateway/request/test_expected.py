"""How answers are read and what they have to match, by dialect, tokens and prompt."""

import re

import pytest
from tokenizers import AddedToken, Tokenizer

from gateway.output.reasoning import ReasoningFormat
from gateway.output.vocabulary import Vocabulary
from gateway.request.dialect import Dialect
from gateway.request.expected import ExpectedAnswer, expect
from gateway.request.structured import Constraint
from gateway.tools.formats import HERMES, LLAMA, MISTRAL, MISTRAL_HEADS, PHI, ToolFormat
from shared.errors import RequestError
from shared.grammar import open_tokenizer, start_matcher, to_grammar
from shared.messages import ChatOptions, Tool
from tests.unit.gateway.tiny_models import byte_level, vocabulary

THINK = ReasoningFormat("<think>", "</think>")
CITY = (
    '{"type":"object","properties":{"city":{"$ref":"#/$defs/name"}},"required":["city"],'
    '"$defs":{"name":{"enum":["Paris","Rome"]}},"additionalProperties":false}'
)
TOOLS = (Tool("now"), Tool("get_weather", "Of a city", CITY))
REQUIRED = ChatOptions(tools=TOOLS, tool_choice="required")
NAMED = ChatOptions(tools=TOOLS, tool_choice="named", tool_name="get_weather")


def tokenizer() -> Tokenizer:
    """With markers: some are special tokens, some are plain ones, as published tokenizers have them."""
    copy = Tokenizer.from_str(byte_level().to_str())
    special = ["[TOOL_CALLS]", "[ARGS]", "<|tool_call|>", "<|/tool_call|>", "<|python_tag|>"]
    copy.add_special_tokens([AddedToken(mark, special=True) for mark in special])
    copy.add_tokens(
        [AddedToken(mark, special=False) for mark in ("<think>", "</think>", "<tool_call>", "</tool_call>")]
    )
    return copy


def words() -> Vocabulary:
    return vocabulary(tokenizer())


def ids(text: str) -> list[int]:
    return tokenizer().encode(text, add_special_tokens=False).ids


def expected(
    tools: ToolFormat | None = None,
    reasoning: ReasoningFormat | None = None,
    *,
    options: ChatOptions = ChatOptions(tools=TOOLS),  # noqa: B008
    prompt: str = "x",
    asked: Constraint | None = None,
) -> ExpectedAnswer:
    return expect(Dialect(tools, reasoning), options, tuple(ids(prompt)), words(), asked)


# --- reading ------------------------------------------------------------------------------------


def test_special_tokens_are_text_where_they_mark_calls_and_only_there() -> None:
    token_ids = ids('[TOOL_CALLS]now[ARGS]{"a":1}')
    assert words().decode(token_ids, expected(MISTRAL).open_reading().shown_ids) == '[TOOL_CALLS]now[ARGS]{"a":1}'
    for options in (ChatOptions(), ChatOptions(tools=TOOLS, tool_choice="none")):
        without = expected(MISTRAL, options=options).open_reading()
        assert without.reader.parser is None
        assert words().decode(token_ids, without.shown_ids) == 'now{"a":1}'


@pytest.mark.parametrize(
    ("prompt", "has_begun"),
    [("assistant\n<think>\n", True), ("assistant\n<think>\n\n</think>\n\n", False), ("assistant\n", False)],
)
def test_reasoning_has_begun_where_the_prompt_ends_with_its_opening(prompt: str, has_begun: bool) -> None:
    assert expected(reasoning=THINK, prompt=prompt).open_reading().reader.is_reasoning is has_begun


def test_each_choice_is_read_by_itself() -> None:
    answer = expected(HERMES, THINK)
    first, second = answer.open_reading().reader, answer.open_reading().reader
    first.feed("<think>a")
    assert first.is_reasoning and not second.is_reasoning


@pytest.mark.parametrize(("form", "pattern"), [(HERMES, r"call_[A-Za-z0-9]{24}"), (MISTRAL, r"[A-Za-z0-9]{9}")])
def test_ids_of_calls_are_unique_and_as_the_family_wants_them(form: ToolFormat, pattern: str) -> None:
    made = set()
    for _ in range(100):
        parser = expected(form).open_reading().reader.parser
        assert parser is not None
        _, calls = parser.feed(f'{form.openings[0]}{{"name": "now", "arguments": {{')
        made.add(calls[0].id)
    assert len(made) == 100 and all(re.fullmatch(pattern, each) for each in made)


# --- grammars -----------------------------------------------------------------------------------


def matches(answer: ExpectedAnswer, text: str, folder: pytest.TempPathFactory) -> bool:
    """All of it, by the grammar that workers follow."""
    assert answer.constraint is not None
    where = folder.mktemp("tokenizer")
    tokenizer().save(str(where / "tokenizer.json"))
    guided = open_tokenizer(where)
    matcher = start_matcher(guided, to_grammar(answer.constraint.kind, answer.constraint.text))
    return matcher.try_consume_tokens(ids(text)) == len(ids(text)) and matcher.is_accepting()


PARIS = '{"city":"Paris"}'
CALLS = {
    HERMES: ('<tool_call>\n{"name": "get_weather", "arguments": %s}\n</tool_call>', "\n"),
    MISTRAL: ('[TOOL_CALLS][{"name": "get_weather", "arguments": %s}]', None),
    MISTRAL_HEADS: ("[TOOL_CALLS]get_weather[ARGS]%s", ""),
    PHI: ('<|tool_call|>[{"name": "get_weather", "arguments": %s}]<|/tool_call|>', None),
    LLAMA: ('{"name": "get_weather", "parameters": %s}', None),
}


@pytest.mark.parametrize("form", CALLS, ids=lambda form: f"{form.name}-{form.style}")
def test_required_calls_are_in_the_models_format(form: ToolFormat, tmp_path_factory: pytest.TempPathFactory) -> None:
    call, between = CALLS[form]
    for options in (REQUIRED, NAMED):
        answer = expected(form, options=options)
        assert matches(answer, call % PARIS, tmp_path_factory)
        assert not matches(answer, call % '{"city":"Oslo"}', tmp_path_factory)  # not of the schema
        assert not matches(answer, call % "{}", tmp_path_factory)
        assert not matches(answer, "Paris is sunny.", tmp_path_factory)
        parser = answer.open_reading().reader.parser
        assert parser is not None
        content, pieces = parser.feed(call % PARIS, is_last=True)
        assert content == "" and [piece.arguments for piece in pieces] == ["", PARIS]
    now = (call % "{}").replace("get_weather", "now")
    assert matches(expected(form, options=REQUIRED), now, tmp_path_factory)
    assert not matches(expected(form, options=NAMED), now, tmp_path_factory)
    if between is not None:
        two = between.join([call % PARIS, now])
        assert matches(expected(form, options=REQUIRED), two, tmp_path_factory)
        one = ChatOptions(tools=TOOLS, tool_choice="required", parallel_tool_calls=False)
        assert not matches(expected(form, options=one), two, tmp_path_factory)


def test_a_list_of_calls_may_stand_apart_from_its_marker(tmp_path_factory: pytest.TempPathFactory) -> None:
    text = CALLS[MISTRAL][0].replace("[TOOL_CALLS][", "[TOOL_CALLS] [") % PARIS
    assert matches(expected(MISTRAL, options=REQUIRED), text, tmp_path_factory)


@pytest.mark.parametrize(
    ("prompt", "right", "wrong"),
    [
        ("x", ["<think>\nHm. <\n</think>\n\n%s", "%s"], ["Hm. </think>%s"]),
        ("<think>\n", ["Hm.\n</think>\n\n%s", "</think>%s"], ["%s", "Hm. %s"]),
    ],
)
def test_a_model_may_reason_before(
    prompt: str, right: list[str], wrong: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    call = CALLS[HERMES][0] % PARIS
    calling = expected(HERMES, THINK, options=REQUIRED, prompt=prompt)
    asked = Constraint("json", '{"type":"object","properties":{"city":{"type":"string"}}}', "response_format")
    answering = expected(HERMES, THINK, prompt=prompt, asked=asked)
    choosing = expected(HERMES, THINK, prompt=prompt, asked=Constraint("choice", '["yes","no"]', "choice"))
    for text in right:
        assert matches(calling, text % call, tmp_path_factory)
        assert matches(answering, text % PARIS, tmp_path_factory)
        assert matches(choosing, text % "yes", tmp_path_factory)
    for text in wrong:
        assert not matches(calling, text % call, tmp_path_factory)
        assert not matches(answering, text % PARIS, tmp_path_factory)
        assert not matches(choosing, text % "yes", tmp_path_factory)


@pytest.mark.parametrize("form", [HERMES, MISTRAL, MISTRAL_HEADS, PHI], ids=lambda form: f"{form.name}-{form.style}")
def test_calls_stand_beside_the_content_that_was_asked_for(
    form: ToolFormat, tmp_path_factory: pytest.TempPathFactory
) -> None:
    asked = Constraint("json", '{"type":"object","required":["x"]}', "response_format")
    answer = expected(form, asked=asked)
    assert matches(answer, CALLS[form][0] % PARIS, tmp_path_factory)
    assert matches(answer, '{"x":1}', tmp_path_factory)
    assert not matches(answer, "{}", tmp_path_factory)
    assert not matches(answer, "x", tmp_path_factory)
    none = ChatOptions(tools=TOOLS, tool_choice="none")
    assert expected(form, options=none, asked=asked).constraint is asked


def test_where_calls_have_no_marker_what_was_asked_for_comes_alone() -> None:
    asked = Constraint("json", '{"type":"object"}', "response_format")
    assert expected(LLAMA, asked=asked).constraint is asked


def test_what_can_be_no_part_of_a_grammar_is_answered_at_once() -> None:
    asked = Constraint("regex", "[ab]+", "structured_outputs.regex")
    answer = expected(HERMES, THINK, prompt="<think>\n", asked=asked)
    assert answer.constraint is asked
    assert not answer.open_reading().reader.is_reasoning
    assert expected(HERMES, asked=asked).constraint is asked


def test_a_grammar_is_bounded() -> None:
    many = tuple(Tool(f"tool_{i}", None, CITY) for i in range(100))
    assert expected(HERMES, options=ChatOptions(tools=many, tool_choice="required")).constraint is not None
    large = tuple(Tool(f"tool_{i}", None, CITY.replace("Paris", "P" * 1000)) for i in range(100))
    assert expected(HERMES, options=ChatOptions(tools=large)).constraint is None
    with pytest.raises(RequestError, match="bytes") as caught:
        expected(HERMES, options=ChatOptions(tools=large, tool_choice="required"))
    assert caught.value.param == "tools"
