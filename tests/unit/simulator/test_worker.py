from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.simulator.builders import BLOCK_TOKENS, KV_TOKEN_BYTES, sequences, times, worker


def test_the_first_step_ends_with_its_weights_and_the_next_take_their_time() -> None:
    toy = worker(num_models=1, num_places=1)
    arrivals = sequences((0.5, 0, 10, 3))
    toy.run(arrivals, until_s=9.0)
    assert times(arrivals) == [[1.5, 1.51, 1.52]]
    assert dict(toy.activity.switches) == {"streamed": 1}
    assert (toy.activity.num_steps, toy.activity.num_loads) == (3, 1)


def test_the_last_layer_comes_after_the_last_byte() -> None:
    toy = worker(num_models=1, num_places=1, last_layer=0.5)
    arrivals = sequences((0.5, 0, 10, 2))
    toy.run(arrivals, until_s=9.0)
    assert times(arrivals) == [[1.505, 1.515]]


def test_without_a_copy_engine_the_step_comes_after_the_copy() -> None:
    toy = worker(num_models=1, num_places=1, beside_steps=False)
    arrivals = sequences((0.5, 0, 10, 2))
    toy.run(arrivals, until_s=9.0)
    assert times(arrivals) == [[1.51, 1.52]]
    assert dict(toy.activity.switches) == {"copied": 1}


def test_the_next_model_comes_while_this_one_runs() -> None:
    toy = worker(num_models=2, num_places=2, turn_steps=300)
    arrivals = sequences((0.0, 0, 4, 200), (0.5, 1, 4, 1))
    toy.run(arrivals, until_s=9.0)
    first, second = times(arrivals)
    assert dict(toy.activity.switches) == {"streamed": 1, "prefetched": 1, "resident": 1}
    assert first[:2] == [1.0, 1.01]
    assert second == [2.01]  # asked for as the step at 1.0 began, there at 2.0


def test_sequences_that_arrive_in_a_step_join_the_next() -> None:
    toy = worker(num_models=1, num_places=1)
    arrivals = sequences((0.0, 0, 4, 3), (1.005, 0, 4, 2))
    toy.run(arrivals, until_s=9.0)
    assert times(arrivals) == [[1.0, 1.01, 1.02], [1.02, 1.03]]


def test_who_is_last_in_line_gives_way_and_comes_back_over_the_link() -> None:
    num_blocks = 6
    toy = worker(1, 1, kv_bytes=num_blocks * BLOCK_TOKENS * KV_TOKEN_BYTES)
    arrivals = sequences((0.0, 0, 8, 12), (0.0, 0, 8, 12))
    toy.run(arrivals, until_s=99.0)
    first, second = times(arrivals)
    assert (len(first), len(second)) == (12, 12)
    assert toy.activity.num_preemptions == 1
    assert first[-1] < second[-1]
    assert toy.activity.link_busy_s > 1.0  # the weights, and KV out and in


def test_it_ends_when_it_is_told() -> None:
    toy = worker(num_models=1, num_places=1)
    arrivals = sequences((0.0, 0, 4, 1000))
    toy.run(arrivals, until_s=2.0)
    assert len(arrivals[0][1].written_at_s) == 101


requests = st.lists(
    st.tuples(st.floats(0, 3), st.integers(0, 3), st.integers(1, 40), st.integers(1, 20)), min_size=1, max_size=25
)


@example(  # a sequence under copy needed a block of those that the first in line counted on
    [
        (0.0, 0, 1, 1),
        (0.0, 0, 8, 10),
        (0.0, 0, 8, 10),
        (0.0, 0, 8, 11),
        (1.0, 0, 1, 9),
        (1.0, 0, 21, 1),
        (1.0, 1, 20, 6),
    ],
    1,
    1,
    16,
    False,
)
@settings(max_examples=100, deadline=None)
@given(requests, st.integers(1, 4), st.integers(1, 6), st.integers(16, 40), st.booleans())
def test_everything_ends_with_all_its_tokens_and_gives_back_what_it_had(
    wanted: list[tuple[float, int, int, int]], num_places: int, turn_steps: int, num_blocks: int, beside_steps: bool
) -> None:
    toy = worker(
        4,
        num_places,
        turn_steps=turn_steps,
        kv_bytes=num_blocks * BLOCK_TOKENS * KV_TOKEN_BYTES,
        beside_steps=beside_steps,
    )
    arrivals = sequences(*sorted(wanted))
    toy.run(arrivals, until_s=1e6)
    for at_s, sequence in arrivals:
        assert len(sequence.written_at_s) == sequence.max_output_tokens
        assert at_s < sequence.written_at_s[0]
        assert sequence.written_at_s == sorted(set(sequence.written_at_s))
    assert toy.kv_used_bytes == 0
