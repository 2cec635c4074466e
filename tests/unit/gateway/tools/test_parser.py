"""Tool calls as models of each family write them."""

from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.output.answer import whole_calls
from gateway.tools.formats import HERMES, LLAMA, MISTRAL, PHI, ToolFormat
from gateway.tools.parser import ToolCallParser
from shared.messages import ToolCallPiece

NAMES = frozenset({"get_weather", "now"})
PARIS = '{"city": "Paris", "days": [1, 2], "note": "} </tool_call> \\" {"}'
FORMATS = [HERMES, MISTRAL, PHI, LLAMA]

Read = tuple[str, list[tuple[str, str]]]  # content; name and arguments of each call


def parser(form: ToolFormat, *, parallel: bool = True) -> ToolCallParser:
    numbers = count()
    return ToolCallParser(form, NAMES, lambda: f"id-{next(numbers)}", parallel=parallel)


def read(form: ToolFormat, *pieces: str, parallel: bool = True) -> Read:
    reader = parser(form, parallel=parallel)
    contents: list[str] = []
    calls: list[ToolCallPiece] = []
    for number, piece in enumerate(pieces, 1):
        content, new = reader.feed(piece, is_last=number == len(pieces))
        contents.append(content)
        calls += new
    whole = whole_calls(calls)
    assert [call.id for call in whole] == [f"id-{index}" for index in range(len(whole))]
    assert reader.num_held == 0
    return "".join(contents), [(call.name, call.arguments) for call in whole]


def cuts(text: str) -> Iterator[tuple[str, str]]:
    return ((text[:at], text[at:]) for at in range(len(text) + 1))


CASES: list[tuple[ToolFormat, str, Read]] = [
    # --- hermes
    (
        HERMES,
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>',
        ("", [("get_weather", '{"city": "Paris"}')]),
    ),
    (
        HERMES,
        "I'll look.\n\n<tool_call>\n"
        f'{{"name": "get_weather", "arguments": {PARIS}}}\n</tool_call>\n<tool_call>\n'
        '{"name": "now", "arguments": {}}\n</tool_call>\n',
        ("I'll look.", [("get_weather", PARIS), ("now", "{}")]),
    ),
    (HERMES, '<tool_call>{"arguments": {"a": 1}, "name": "now"}</tool_call>', ("", [("now", '{"a": 1}')])),
    (HERMES, '<tool_call>{"name": "now"}</tool_call>', ("", [("now", "{}")])),
    (HERMES, '<tool_call>{"id": 7, "name": "now", "arguments": {}, "x": [1]}</tool_call>', ("", [("now", "{}")])),
    (HERMES, '<tool_call>{"name": "now", "arguments": {}}', ("", [("now", "{}")])),  # the end of the answer
    (HERMES, '<tool_call>{"name": "now", "arguments": {"a": 1', ("", [("now", '{"a": 1')])),  # cut by max_tokens
    (HERMES, '<tool_call>{"name": "now", "arguments": {}}</tool_', ("", [("now", "{}")])),
    (HERMES, '<tool_call>{"name": "now", "arguments": {"a": 1</tool_call> so', (" so", [("now", '{"a": 1')])),
    (HERMES, '<tool_call>{"name": "now", "arguments": {}}</tool_call> Done. ', (" Done.", [("now", "{}")])),
    (HERMES, "No tools <tool> are needed. ", ("No tools <tool> are needed. ", [])),
    (HERMES, " \n", (" \n", [])),
    # --- mistral
    (
        MISTRAL,
        f'[TOOL_CALLS] [{{"name": "get_weather", "arguments": {PARIS}}}, {{"name": "now", "arguments": {{}}}}]',
        ("", [("get_weather", PARIS), ("now", "{}")]),
    ),
    (MISTRAL, f"[TOOL_CALLS]get_weather[ARGS]{PARIS}", ("", [("get_weather", PARIS)])),
    (
        MISTRAL,
        "Both.[TOOL_CALLS]now[CALL_ID]a1B2c3D4e[ARGS]{}[TOOL_CALLS]get_weather{}",
        ("Both.", [("now", "{}"), ("get_weather", "{}")]),
    ),
    (MISTRAL, "[TOOL_CALLS]other[ARGS]{}", ("[TOOL_CALLS]other[ARGS]{}", [])),
    (MISTRAL, "[TOOL_CALLS] are written like this", ("[TOOL_CALLS] are written like this", [])),
    # --- phi
    (
        PHI,
        f'<|tool_call|>[{{"name": "get_weather", "arguments": {PARIS}}}, {{"name": "now", "arguments": {{}}}}]'
        "<|/tool_call|>",
        ("", [("get_weather", PARIS), ("now", "{}")]),
    ),
    (PHI, '<|tool_call|>{"name": "now", "arguments": {}}<|/tool_call|>', ("", [("now", "{}")])),
    (PHI, 'functools[{"name": "now", "arguments": {}}]', ("", [("now", "{}")])),
    (PHI, "import functools\n\n@functools.cache", ("import functools\n\n@functools.cache", [])),
    # --- llama
    (LLAMA, f'{{"name": "get_weather", "parameters": {PARIS}}}', ("", [("get_weather", PARIS)])),
    (LLAMA, f'\n<|python_tag|>{{"name": "get_weather", "parameters": {PARIS}}}', ("", [("get_weather", PARIS)])),
    (
        LLAMA,
        '{"type": "function", "name": "now", "parameters": {}}; {"name": "get_weather", "parameters": {}}',
        ("", [("now", "{}"), ("get_weather", "{}")]),
    ),
    (LLAMA, '{"name": "Paris", "country": "France"}', ('{"name": "Paris", "country": "France"}', [])),
    (LLAMA, ' {"temperature": {"name": "now"}}', (' {"temperature": {"name": "now"}}', [])),
    (LLAMA, 'It is {"name": "now", "parameters": {}}', ('It is {"name": "now", "parameters": {}}', [])),
    (LLAMA, "<|python_tag|>print(1)", ("<|python_tag|>print(1)", [])),
]
# Of each family, what looks like a call and is none.
BROKEN_OBJECTS = [
    '{"name": "other", "arguments": {}}',
    '{"name": 1, "arguments": {}}',
    '{"name": "now", "arguments": "{}"}',
    '{"name": "now", "arguments": [1]}',
    '{"name": "now" "arguments": {}}',
    '{"arguments": {"a": 1}}',
    '{"arguments": {]}, "name": "now"}',
    '{name: "now"}',
    "{}",
    "[]",
    "oops",
    '{"name": "no',
    '{"na\tme": "now"}',
    "",
]


@pytest.mark.parametrize(("form", "text", "result"), CASES)
def test_what_models_write(form: ToolFormat, text: str, result: Read) -> None:
    assert read(form, text) == result


@pytest.mark.parametrize(("form", "text", "result"), CASES)
def test_where_it_is_cut_does_not_matter(form: ToolFormat, text: str, result: Read) -> None:
    for before, after in cuts(text):
        assert read(form, before, after) == result
    assert read(form, *text, "") == result


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
@pytest.mark.parametrize("broken", BROKEN_OBJECTS)
def test_what_is_no_call_is_content_markers_and_all(form: ToolFormat, broken: str) -> None:
    for text in (f"{form.openings[0]}{broken}{form.closing} x", f"a {form.openings[0]} {broken}"):
        assert read(form, text) == (text, [])


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
@given(data=st.data())
def test_any_text_in_any_pieces(form: ToolFormat, data: st.DataObject) -> None:
    """Made of what matters to the format, so that half of it looks like calls."""
    words = [
        *form.markers, form.separator, '{"name": "now", "arguments": {"a": "b"}}', '{"name": "', 'now"',
        ', "arguments": ', "{", "}", "[", "]", ",", '"', "\\", " ", "\n", "x", "<", "\u00e9",
    ]  # fmt: skip
    text = "".join(data.draw(st.lists(st.sampled_from(words), max_size=12)))
    pieces = []
    rest = text
    while rest:
        num = data.draw(st.integers(1, len(rest)))
        pieces.append(rest[:num])
        rest = rest[num:]
    whole = read(form, text)
    assert read(form, *pieces, "") == whole
    content, calls = whole
    if not calls:
        assert content == text


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
@given(st.text(max_size=40))
def test_text_without_markers_is_content_as_it_is(form: ToolFormat, text: str) -> None:
    assert read(form, text) == (text, [])


def test_a_call_is_out_as_soon_as_its_arguments_begin_and_they_follow_as_they_come() -> None:
    reader = parser(HERMES)
    assert reader.feed('Hm. <tool_call>{"name": "now", "argum') == ("Hm.", [])
    assert reader.num_held == len(' <tool_call>{"name": "now", "argum')
    assert reader.feed('ents": {"a') == ("", [ToolCallPiece(0, id="id-0", name="now"), ToolCallPiece(0, '{"a')])
    assert reader.num_held == 0
    assert reader.feed('": 1') == ("", [ToolCallPiece(0, '": 1')])
    assert reader.feed("}}</tool") == ("", [ToolCallPiece(0, "}")])
    assert reader.num_held == len("</tool")
    assert reader.feed("_call>") == ("", [])


def test_an_object_that_is_no_call_is_let_go_with_its_first_key() -> None:
    assert parser(LLAMA).feed('{"temperature": 2') == ('{"temperature": 2', [])


def test_content_is_held_back_only_while_it_may_be_a_marker_or_space_before_one() -> None:
    reader = parser(HERMES)
    assert reader.feed("a <b> <tool") == ("a <b>", [])
    assert reader.num_held == len(" <tool")
    assert reader.feed("box>") == (" <toolbox>", [])


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (HERMES, '<tool_call>{"name": "now", "arguments": {}}</tool_call><tool_call>{"name": "now"}</tool_call> x'),
        (MISTRAL, '[TOOL_CALLS][{"name": "now", "arguments": {}}, {"name": "now", "arguments": {}}]'),
        (LLAMA, '{"name": "now", "parameters": {}};{"name": "now", "parameters": {}}'),
    ],
)
def test_without_parallel_calls_it_is_complete_with_the_first(form: ToolFormat, text: str) -> None:
    assert read(form, text, parallel=False) == ("", [("now", "{}")])
    reader = parser(form, parallel=False)
    num_fed = 0
    while not reader.is_complete:
        reader.feed(text[num_fed])
        num_fed += 1
    assert text[:num_fed].endswith("}}")
