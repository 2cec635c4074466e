import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from gateway.output.detokenize import Detokenizer
from tests.unit.gateway.tiny_models import BOS_ID, EOS, EOS_ID, byte_fallback, byte_level, vocabulary

BYTE_LEVEL_IDS = st.lists(st.integers(0, byte_level().get_vocab_size() - 1), max_size=40)
FALLBACK_IDS = st.lists(st.integers(0, byte_fallback().get_vocab_size() - 1), max_size=40)


def stream(tokenizer: Tokenizer, token_ids: list[int], context: tuple[int, ...] = ()) -> list[str]:
    detokenizer = Detokenizer(vocabulary(tokenizer), context)
    return [*(detokenizer.feed(token_id) for token_id in token_ids), detokenizer.flush()]


@given(BYTE_LEVEL_IDS)
def test_deltas_add_up_to_the_full_decode_of_any_tokens(token_ids: list[int]) -> None:
    assert "".join(stream(byte_level(), token_ids)) == byte_level().decode(token_ids)


@given(BYTE_LEVEL_IDS)
def test_a_token_that_is_plain_adds_its_text_to_any_whole_text(token_ids: list[int]) -> None:
    known = vocabulary(byte_level())
    before = known.decode(token_ids)
    if before.endswith("\ufffd"):
        return
    plain = [token_id for token_id in range(byte_level().get_vocab_size()) if known.plain(token_id)]
    assert len(plain) > 100
    for token_id in plain[::10]:
        assert known.decode([*token_ids, token_id]) == before + known.plain(token_id)


def test_where_a_text_is_more_than_its_tokens_bytes_no_token_is_plain() -> None:
    known = vocabulary(byte_fallback())
    assert not any(known.plain(token_id) for token_id in range(byte_fallback().get_vocab_size()))


@given(st.text(max_size=20))
@pytest.mark.parametrize("tokenizer", [byte_level(), byte_fallback()], ids=["byte-level", "byte-fallback"])
def test_deltas_add_up_to_the_full_decode_of_any_text(tokenizer: Tokenizer, text: str) -> None:
    token_ids = tokenizer.encode(text, add_special_tokens=False).ids
    deltas = stream(tokenizer, token_ids)
    assert "".join(deltas) == tokenizer.decode(token_ids)
    if "\ufffd" not in text:
        assert not any("\ufffd" in delta for delta in deltas)  # never half a character


@given(FALLBACK_IDS)
def test_broken_utf8_of_single_bytes_never_raises(token_ids: list[int]) -> None:
    stream(byte_fallback(), token_ids)


def test_a_character_over_several_tokens_comes_once_and_whole() -> None:
    token_ids = byte_fallback().encode("é", add_special_tokens=False).ids
    deltas = stream(byte_fallback(), token_ids)
    assert [delta for delta in deltas if delta] == ["é"]


def test_special_tokens_are_no_text() -> None:
    token_ids = byte_level().encode("fox dog", add_special_tokens=False).ids
    assert "".join(stream(byte_level(), [BOS_ID, *token_ids, EOS_ID])) == "fox dog"


def test_a_completion_keeps_the_space_between_prompt_and_output() -> None:
    tokenizer = byte_fallback()
    prompt, output = tokenizer.encode("a").ids, tokenizer.encode("b").ids
    assert "".join(stream(tokenizer, output, tuple(prompt))) == " b"
    assert "".join(stream(tokenizer, output)) == "b"


def test_a_prompt_that_ends_inside_a_character() -> None:
    tokenizer = byte_level()
    token_ids = tokenizer.encode("\u9f98", add_special_tokens=False).ids  # not in the corpus: several tokens
    assert len(token_ids) > 1
    text = "".join(stream(tokenizer, [*token_ids[1:], *tokenizer.encode("fox").ids], tuple(token_ids[:1])))
    assert text.endswith("fox")


@pytest.mark.parametrize("piece", [EOS, "\u00e6"])  # a special token; byte E6, which three times is no character
def test_endless_silent_tokens_are_decoded_in_bounded_windows(piece: str) -> None:
    """Each step decodes all that is still silent, so that has to stay short."""
    tokenizer = byte_level()
    token_id = tokenizer.token_to_id(piece)
    assert token_id is not None
    detokenizer = Detokenizer(vocabulary(tokenizer))
    for _ in range(200):
        detokenizer.feed(token_id)
        assert detokenizer.num_silent <= 64
    fox = tokenizer.encode("fox", add_special_tokens=False).ids
    assert "".join([*map(detokenizer.feed, fox), detokenizer.flush()]).endswith("fox")
