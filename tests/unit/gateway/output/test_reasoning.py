import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.output.reasoning import ReasoningFormat, ReasoningSplitter, reasoning_format

THINK = ReasoningFormat("<think>", "</think>")


def split(*pieces: str, has_begun: bool = False) -> tuple[str, str]:
    splitter = ReasoningSplitter(THINK, has_begun=has_begun)
    reasoning, content = "", ""
    for number, piece in enumerate(pieces, 1):
        more, rest = splitter.feed(piece, is_last=number == len(pieces))
        reasoning, content = reasoning + more, content + rest
    assert splitter.num_held == 0
    return reasoning, content


@pytest.mark.parametrize(
    ("text", "has_begun", "parts"),
    [
        ("<think>\nLet me see.\n</think>\n\nIt is 4.", False, ("Let me see.", "It is 4.")),
        ("\nLet me see.\n</think>\n\nIt is 4.\n", True, ("Let me see.", "It is 4.\n")),  # the template opened it
        ("<think>\nLet me see.</think>It is 4.", True, ("Let me see.", "It is 4.")),  # and so did the model
        ("<think>\n\n</think>\n\nIt is 4.", False, ("", "It is 4.")),
        ("It is <think>4</think>.", False, ("", "It is <think>4</think>.")),
        (" It is 4.", False, ("", " It is 4.")),
        ("<think>Is a < b? </thin", False, ("Is a < b? </thin", "")),  # cut by max_tokens
        ("<thin", False, ("", "<thin")),
        ("  ", False, ("", "  ")),
        ("a</think>b</think>c", True, ("a", "b</think>c")),
        ("", True, ("", "")),
    ],
)
def test_reasoning_and_content(text: str, has_begun: bool, parts: tuple[str, str]) -> None:
    assert split(text, has_begun=has_begun) == parts
    for at in range(len(text) + 1):
        assert split(text[:at], text[at:], has_begun=has_begun) == parts
    assert split(*text, "", has_begun=has_begun) == parts


@given(st.lists(st.sampled_from(["<think>", "</think>", "<", "/", "think>", " ", "\n", "a"])), st.booleans(), st.data())
def test_where_it_is_cut_does_not_matter(words: list[str], has_begun: bool, data: st.DataObject) -> None:
    text = "".join(words)
    ends = sorted(data.draw(st.lists(st.integers(0, len(text)))))
    pieces = [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]
    assert split(*pieces, has_begun=has_begun) == split(text, has_begun=has_begun)


def test_reasoning_goes_out_as_it_comes() -> None:
    splitter = ReasoningSplitter(THINK, has_begun=False)
    assert splitter.feed("<think>\nLet") == ("Let", "")
    assert splitter.is_reasoning
    assert splitter.feed(" me see. </th") == (" me see.", "")
    assert splitter.num_held == len(" </th")
    assert splitter.feed("e <") == (" </the", "")
    assert splitter.feed("/think>\nIt") == ("", "It")
    assert not splitter.is_reasoning


@pytest.mark.parametrize(
    ("template", "opening"),
    [
        ("{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}", "<think>"),
        ("{{ '<|Assistant|><think>\\n' }}", "<think>"),
        ("{{ '[THINK]' + message.reasoning + '[/THINK]' }}", "[THINK]"),
        ("{{ message.content }}", None),
    ],
)
def test_the_template_says_whether_a_model_reasons(template: str, opening: str | None) -> None:
    form = reasoning_format(template)
    assert (form.opening if form else None) == opening
