from gpu_worker.planned_step import PlannedStep
from gpu_worker.scheduling.costs import StepShape
from gpu_worker.sequence import Sequence
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
