import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models

from gateway.text.jobs import Spelled
from gateway.vocabulary import Vocabulary
from tests.unit.gateway.tiny_models import byte_fallback, byte_level, vocabulary


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
