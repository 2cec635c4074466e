from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.scheduling.costs import StepShape, guess, step_shape


def test_one_token_after_others_is_decoding_and_all_else_is_prompt() -> None:
    assert step_shape([(1, 9), (1, 19)]) == StepShape(2, 30)
    assert step_shape([(1, 0)]) == StepShape(0, 0, 1, 1)
    assert step_shape([(4, 0), (3, 10), (1, 5)]) == StepShape(1, 6, 7, (1 + 2 + 3 + 4) + (11 + 12 + 13))


@given(st.integers(1, 256), st.integers(1, 256), st.integers(0, 4096))
def test_a_prompt_in_two_chunks_has_the_pairs_of_the_whole(first: int, second: int, start: int) -> None:
    whole = step_shape([(first + second, start)])
    chunks = [step_shape([(first, start)]), step_shape([(second, start + first)])]
    if not any(chunk.num_decoding for chunk in chunks):
        assert sum(chunk.num_prefill_pairs for chunk in chunks) == whole.num_prefill_pairs


@given(st.integers(0, 1 << 40))
def test_a_guess_takes_time_and_so_does_each_part_of_a_step(blob_bytes: int) -> None:
    costs = guess(blob_bytes)
    assert min(costs.base_s, costs.prefill_s, costs.pair_s, costs.decode_s, costs.context_s) > 0
