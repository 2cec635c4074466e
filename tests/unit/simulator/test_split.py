"""A worker for prompts and one for decoding."""

import pytest

from gpu_worker.scheduling.aegaeon import AegaeonDecode, AegaeonPrefill
from simulator.sequence import SimulatedSequence
from tests.unit.simulator.builders import BLOB_BYTES, BLOCK_TOKENS, COPY_S, KV_TOKEN_BYTES, sequences, worker


def test_a_sequence_leaves_with_its_first_token_when_its_kv_is_in_host_memory_and_takes_it_along() -> None:
    handed_over: list[tuple[float, SimulatedSequence]] = []
    first = worker(1, 1, policy=AegaeonPrefill(), hand_over=lambda one, now_s: handed_over.append((now_s, one)))
    arrivals = sequences((0.0, 0, 4 * BLOCK_TOKENS, 3), (0.0, 0, 4, 1))
    first.run(arrivals, until_s=99.0)
    (long, short) = (sequence for _, sequence in arrivals)
    copy_s = 4 * BLOCK_TOKENS * KV_TOKEN_BYTES / BLOB_BYTES * COPY_S
    assert long.written_at_s == short.written_at_s == [1.0]
    assert [(pytest.approx(at_s), sequence) for at_s, sequence in handed_over] == [(1.0 + copy_s, long)]
    assert first.kv_used_bytes == 0

    second = worker(1, 1, policy=AegaeonDecode())
    second.run(handed_over, until_s=99.0)
    # The weights come on demand once the KV is there: it has no step to ask for them before.
    begins_at_s = 1.0 + 2 * copy_s
    assert long.written_at_s[1:] == [pytest.approx(begins_at_s + COPY_S), pytest.approx(begins_at_s + COPY_S + 0.01)]
    assert second.kv_used_bytes == 0
    assert second.activity.num_step_tokens == 2
