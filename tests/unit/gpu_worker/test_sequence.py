import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.sequence import Sequence
from shared.ids import ModelName, OwnerId, RequestId
from shared.messages import Sampling, Submit
from shared.slo import Slo


@given(
    prompt=st.lists(st.integers(0, 9), min_size=1),
    output=st.lists(st.integers(0, 9)),
    new=st.lists(st.integers(0, 9)),
    age_s=st.floats(0, 100),
)
def test_counts_and_due_times_are_those_of_its_tokens(
    prompt: list[int], output: list[int], new: list[int], age_s: float
) -> None:
    slo = Slo(ttft_s=2.0, tbt_s=0.05)
    sampling = Sampling(max_tokens=1000, seed=0)
    ids = RequestId("r"), 0, OwnerId("owner"), ModelName("model")
    sequence = Sequence(Submit(*ids, tuple(prompt), sampling, tuple(output), age_s, slo=slo), 100.0)
    for num_new in range(len(new) + 1):
        assert sequence.token_ids == [*prompt, *output, *new[:num_new]]
        assert sequence.num_tokens == len(sequence.token_ids)
        assert sequence.num_output_tokens == len(sequence.output) == len(output) + num_new
        assert sequence.due_at_s == pytest.approx(100.0 - age_s + slo.due_s(len(output) + num_new))
        if num_new < len(new):
            sequence.append(new[num_new])
