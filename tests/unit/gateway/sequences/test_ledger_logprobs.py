"""Log-probabilities arrive with the tokens that they belong to, those of the prompt before all of them."""

from msgspec.structs import replace

from shared.messages import PromptLogprobs, Resend, TokenLogprobs
from tests.unit.gateway.builders import OWNER, tokens
from tests.unit.gateway.sequences.desk import Desk, R


def scored(first: int, last: int) -> tuple[TokenLogprobs, ...]:
    return tuple(TokenLogprobs(i, -float(i)) for i in range(first, last))


def test_log_probabilities_are_placed_with_their_tokens() -> None:
    desk = Desk()
    sequence = desk.running()
    desk.frame(1, replace(tokens(0, 10, 11), logprobs=scored(0, 2)))
    desk.frame(2, replace(tokens(1, 11, 12), logprobs=scored(1, 3)))  # a repeat, and one more
    assert (sequence.output, tuple(sequence.logprobs)) == ([10, 11, 12], scored(0, 3))


def test_a_prompts_log_probabilities_come_before_its_first_token_or_are_asked_for() -> None:
    desk = Desk()
    sequence = desk.running(num_prompt_logprobs=0)  # of three tokens
    desk.frame(1, replace(tokens(0), prompt_logprobs=PromptLogprobs(0, scored(0, 1))))
    assert desk.frame(2, tokens(0, 10)) == [Resend(OWNER, R, 0, 0, first_prompt_logprob=1)]
    assert sequence.output == []
    again = PromptLogprobs(1, scored(1, 2))
    assert desk.frame(3, replace(tokens(0, 10), prompt_logprobs=again)) == []
    assert (sequence.output, tuple(sequence.prompt_logprobs)) == ([10], scored(0, 2))


def test_a_hole_in_a_prompts_log_probabilities_is_asked_for_once_and_filled() -> None:
    desk = Desk()
    sequence = desk.running(num_prompt_logprobs=0)
    late = replace(tokens(0), prompt_logprobs=PromptLogprobs(1, scored(1, 2)))
    assert desk.frame(2, late) == [Resend(OWNER, R, 0, 0)]
    assert desk.frame(3, late) == []
    assert desk.frame(4, replace(tokens(0), prompt_logprobs=PromptLogprobs(0, scored(0, 2)))) == []
    assert tuple(sequence.prompt_logprobs) == scored(0, 2)


def test_the_next_attempt_scores_a_prompt_that_was_not_scored_whole() -> None:
    desk = Desk()
    sequence = desk.running(num_prompt_logprobs=0)
    desk.frame(1, replace(tokens(0), prompt_logprobs=PromptLogprobs(0, scored(0, 1))))
    sequence.next_attempt(desk.now_s)
    whole = replace(tokens(0, attempt=1), prompt_logprobs=PromptLogprobs(0, scored(0, 2)))
    assert desk.frame(2, whole) == []
    assert tuple(sequence.prompt_logprobs) == scored(0, 2)
