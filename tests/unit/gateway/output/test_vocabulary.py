import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models

from gateway.output.vocabulary import Vocabulary
from gateway.text.jobs import Spelled
from tests.unit.gateway.tiny_models import EOS, EOS_ID, byte_fallback, byte_level, vocabulary


def words() -> Tokenizer:
    """Without a decoder, and with a gap between its ids."""
    tokenizer = Tokenizer(models.WordLevel({"fox": 0, "d\u00f6g": 1, "cat": 5}, unk_token="fox"))
    tokenizer.add_special_tokens([AddedToken("<end>", special=True)])
    tokenizer.add_tokens(["added"])
    return tokenizer


@pytest.mark.parametrize("tokenizer", [byte_level(), byte_fallback(), words()], ids=["level", "fallback", "words"])
@given(st.lists(st.integers(0, 400), max_size=30))
def test_it_decodes_as_its_tokenizer(tokenizer: Tokenizer, token_ids: list[int]) -> None:
    assert vocabulary(tokenizer).decode(token_ids) == tokenizer.decode(token_ids)


def test_an_unknown_decoder_is_an_error() -> None:
    with pytest.raises(ValueError, match="decoder"):
        Vocabulary(Spelled(b"", b"", (), '{"type":"Unknown"}'))


@pytest.mark.parametrize("tokenizer", [byte_level(), byte_fallback()], ids=["level", "fallback"])
@given(st.text(max_size=20))
def test_a_texts_tokens_are_its_bytes(tokenizer: Tokenizer, text: str) -> None:
    token_ids = tokenizer.encode(f"a{text}", add_special_tokens=False).ids
    spelled = b"".join(vocabulary(tokenizer).token_bytes(token_id) for token_id in token_ids)
    assert spelled.decode().lstrip() == tokenizer.decode(token_ids).lstrip()


@given(st.lists(st.integers(2, byte_level().get_vocab_size() - 1), max_size=10))
def test_any_tokens_bytes_are_those_of_their_text(token_ids: list[int]) -> None:
    spelled = b"".join(vocabulary(byte_level()).token_bytes(token_id) for token_id in token_ids)
    assert spelled.decode(errors="replace") == byte_level().decode(token_ids)


def test_tokens_that_are_no_text_by_themselves() -> None:
    fallback, level = vocabulary(byte_fallback()), vocabulary(byte_level())
    euro = [byte_fallback().token_to_id(f"<0x{byte:02X}>") for byte in "\u20ac".encode()]
    assert [fallback.token_bytes(token_id or 0) for token_id in euro] == [b"\xe2", b"\x82", b"\xac"]
    assert fallback.token_bytes(byte_fallback().token_to_id("\u2581a") or 0) == b" a"
    assert level.token_bytes(byte_level().token_to_id("\u0120") or 0) == b" "
    assert level.token_bytes(EOS_ID) == EOS.encode()
    assert level.is_special(EOS_ID) and not level.is_special(5)


def test_words_begin_with_their_space_and_gaps_are_empty() -> None:
    one = vocabulary(words())
    assert [one.token_bytes(token_id) for token_id in (0, 1, 5)] == [b" fox", " d\u00f6g".encode(), b" cat"]
    assert [one.token_bytes(token_id) for token_id in (2, -1, 10**6)] == [b"", b"", b""]


def test_special_tokens_can_be_shown() -> None:
    tokenizer = words()
    known = vocabulary(tokenizer)
    end, added = tokenizer.token_to_id("<end>"), tokenizer.token_to_id("added")
    assert end is not None and added is not None
    assert [known.id_of(token) for token in ("<end>", "added", "fox", "ox")] == [end, added, 0, None]
    assert known.decode([0, end, added]) == "fox added"
    assert known.decode([0, end, added], {end}) == tokenizer.decode([0, end, added], skip_special_tokens=False)
