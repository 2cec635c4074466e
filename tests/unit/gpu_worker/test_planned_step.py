from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.execution.logprobs import ScoredTokens
from gpu_worker.planned_step import PlannedStep, bounded
from gpu_worker.scheduling.costs import StepShape
from gpu_worker.sequence import Sequence
from shared.messages import TokenLogprobs
from tests.unit.gpu_worker.stand_ins import submit


def sequence(num_prompt: int, output: tuple[int, ...] = (), *, computed: int = 0) -> Sequence:
    one = Sequence(submit(prompt=range(num_prompt), output=output), now_s=0.0)
    one.num_computed_tokens = computed
    one.block_ids = [7, 8, 9]
    return one


def test_a_part_is_the_next_tokens_and_draws_one_where_it_reaches_the_end() -> None:
    decoding, ending, beginning = sequence(2, (70, 71), computed=3), sequence(5, computed=2), sequence(9)
    parts = PlannedStep([(decoding, 1), (ending, 3), (beginning, 4)]).parts()
    assert [list(part.token_ids) for part in parts] == [[71], [2, 3, 4], [0, 1, 2, 3]]
    assert [(part.span.start, part.span.num_new) for part in parts] == [(3, 1), (2, 3), (0, 4)]
    assert all(part.span.block_ids == [7, 8, 9] for part in parts)
    assert [part.sampling and part.sampling.position for part in parts] == [2, 0, None]


def test_tokens_count_as_decode_after_the_first_output() -> None:
    decoding, last_of_prompt, beginning = sequence(2, (70,), computed=2), sequence(3, computed=2), sequence(9)
    planned = PlannedStep([(decoding, 1), (last_of_prompt, 1), (beginning, 4)])
    assert (planned.num_tokens(), planned.num_decode_tokens()) == (6, 1)


def test_its_shape_is_that_of_its_shares() -> None:
    planned = PlannedStep([(sequence(2, (70, 71), computed=3), 1), (sequence(5, computed=2), 3)])
    assert planned.shape() == StepShape(1, 4, 3, 3 + 4 + 5)


def scoring(num_prompt: int, output: tuple[int, ...] = (), *, computed: int = 0, num_top: int = 2) -> Sequence:
    one = Sequence(submit(prompt=range(num_prompt), output=output, num_prompt_logprobs=num_top), now_s=0.0)
    one.num_computed_tokens = computed
    one.prompt_logprobs += [TokenLogprobs(i + 1, 0.0) for i in range(min(computed, num_prompt - 1))]
    return one


@given(st.integers(1, 30), st.lists(st.integers(1, 9), min_size=30, max_size=30))
def test_chunks_of_a_prompt_score_each_of_its_tokens_but_the_first_once(num_prompt: int, chunks: list[int]) -> None:
    one, scored = scoring(num_prompt), list[int]()
    for chunk in chunks:
        num_tokens = min(chunk, one.num_tokens - one.num_computed_tokens)
        if not num_tokens:
            break
        (part,) = PlannedStep([(one, num_tokens)]).parts()
        one.num_computed_tokens += num_tokens
        if part.scored is None:
            continue
        for at, token_id in enumerate(part.scored.token_ids, part.scored.first):
            assert 0 <= at < num_tokens
            assert token_id == part.token_ids[at] + 1  # the prompt counts up
        scored += part.scored.token_ids
        one.prompt_logprobs += [TokenLogprobs(token_id, 0.0) for token_id in part.scored.token_ids]
    assert scored == list(range(1, num_prompt))
    assert not one.needs_prompt_logits


def test_a_prompt_that_is_computed_again_is_not_scored_again() -> None:
    one = scoring(10, computed=6)
    one.num_computed_tokens = 0  # it was preempted
    (part,) = PlannedStep([(one, 9)]).parts()
    assert part.scored == ScoredTokens(6, [7, 8, 9], 2)
    (part,) = PlannedStep([(one, 6)]).parts()
    assert part.scored is None


def test_what_an_earlier_attempt_scored_is_not_scored_again() -> None:
    one = scoring(5, output=(70,))
    assert not one.needs_prompt_logits
    (part,) = PlannedStep([(one, 6)]).parts()
    assert part.scored is None


def test_the_logits_of_prompts_are_bounded_and_the_first_comes_first() -> None:
    plain, first, second, third = sequence(20), scoring(20), scoring(9, computed=8), scoring(20)
    shares = [(plain, 20), (first, 5), (second, 1), (third, 9)]
    assert list(bounded(shares, 100)) == shares
    assert list(bounded(shares, 7)) == [(plain, 20), (first, 5), (second, 1), (third, 2)]
    assert list(bounded(shares, 3)) == [(plain, 20), (first, 3), (second, 1)]


def test_it_draws_a_token_for_each_sequence_whose_end_it_reaches() -> None:
    decoding, ending, beginning = sequence(2, (70, 71), computed=3), sequence(5, computed=2), sequence(9)
    assert PlannedStep([(decoding, 1), (ending, 3), (beginning, 4)]).num_drawn_tokens() == 2
