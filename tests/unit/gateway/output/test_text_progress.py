from hypothesis import given
from hypothesis import strategies as st

from gateway.output.text_progress import TextProgress

PIECES = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 4), st.integers(0, 5)), max_size=40)


def test_a_token_is_out_with_its_last_character() -> None:
    progress = TextProgress()
    progress.feed(1, 3, 0)
    assert progress.num_tokens_out == 1
    progress.feed(2, 3, 1)
    assert progress.num_tokens_out == 1
    progress.feed(3, 1, 2)
    assert progress.num_tokens_out == 1
    progress.feed(4, 2, 2)
    assert progress.num_tokens_out == 3


def test_a_token_without_text_is_out_with_what_comes_before_it() -> None:
    progress = TextProgress()
    progress.feed(1, 0, 0)
    assert progress.num_tokens_out == 1
    progress.feed(2, 3, 1)
    progress.feed(3, 0, 1)
    assert progress.num_tokens_out == 1
    progress.feed(4, 1, 1)
    assert progress.num_tokens_out == 3


@given(PIECES)
def test_any_pieces_give_what_a_list_of_their_ends_gives(pieces: list[tuple[int, int, int]]) -> None:
    """Each: tokens, characters, characters held back after it, as far as there are as many."""
    progress = TextProgress()
    ends: list[tuple[int, int]] = []
    num_tokens = num_chars = num_held = 0
    for num_new_tokens, num_new_chars, wanted_held in pieces:
        num_tokens += num_new_tokens
        num_chars += num_new_chars
        num_held = min(wanted_held, num_held + num_new_chars)  # what is out stays out
        ends.append((num_tokens, num_chars))
        progress.feed(num_tokens, num_new_chars, num_held)
        out = [tokens for tokens, end in ends if end <= num_chars - num_held]
        assert progress.num_tokens_out == (out[-1] if out else 0)
