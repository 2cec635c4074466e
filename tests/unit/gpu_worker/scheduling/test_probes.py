from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.scheduling.costs import StepShape, step_shape
from gpu_worker.scheduling.probes import LONGEST_TOKENS, NUM_SEQUENCES, OTHER_TOKENS, Probe, plan_probes


def shapes(probes: list[Probe]) -> list[StepShape]:
    num_tokens: Counter[int] = Counter()
    result = []
    for probe in probes:
        result.append(step_shape((part.num_new, num_tokens[part.sequence]) for part in probe))
        num_tokens.update({part.sequence: part.num_new for part in probe})
    return result


def test_with_room_every_kind_of_step_is_tried() -> None:
    tried = shapes(plan_probes([LONGEST_TOKENS] + [OTHER_TOKENS] * (NUM_SEQUENCES - 1), 256))
    assert {1, 2, 4, 8} <= {shape.num_decoding for shape in tried}
    alone = [shape.num_context_tokens for shape in tried if shape.num_decoding == 1]
    assert min(alone) < 20 and max(alone) > 400
    assert {16, 128, 256} <= {shape.num_prefill_tokens for shape in tried if not shape.num_decoding}
    assert any(shape.num_decoding and shape.num_prefill_tokens for shape in tried)
    assert len(tried) <= 25 and sum(shape.num_prefill_tokens for shape in tried) < 1000


@given(st.lists(st.integers(0, 600), min_size=1, max_size=8), st.integers(1, 300))
def test_no_sequence_outgrows_its_room_and_no_step_its_budget(room_tokens: list[int], max_step_tokens: int) -> None:
    taken: Counter[int] = Counter()
    for probe in plan_probes(room_tokens, max_step_tokens):
        assert probe and len({part.sequence for part in probe}) == len(probe)
        assert sum(part.num_new for part in probe if part.num_new > 1) <= max_step_tokens
        taken.update({part.sequence: part.num_new for part in probe})
    assert all(taken[sequence] <= room for sequence, room in enumerate(room_tokens))
