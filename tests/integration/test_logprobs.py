"""Log-probabilities are the model's own, under any schedule: in float32 they equal those of the model run alone."""

import random
from collections.abc import Sequence
from itertools import pairwise

import pytest

from gpu_worker import served_models
from shared.config import ModelSource
from shared.ids import RequestId
from shared.messages import TokenLogprobs
from tests.integration.step_gate import gated_steps
from tests.integration.test_exactness import FAMILIES, KV_BYTES, NUM_TOKENS, ONE_MODEL_BYTES, prompts
from tests.integration.test_kv_swap import swap_at_every_step
from tests.integration.tiny_models import TinyModels
from tests.integration.worker_harness import Harness, Stream, running_worker

TOLERANCE = 1e-4  # of a logarithm: the company in a step changes the last bits of logits
NUM_TOP = 3


def check(
    tiny_models: TinyModels, source: ModelSource, prompt: Sequence[int], stream: Stream, *, scores_prompt: bool = True
) -> None:
    """All entries against the reference run over the same tokens."""
    token_ids = [*prompt, *stream.tokens]
    expected = tiny_models.logprobs(source, token_ids)
    assert len(stream.logprobs) == len(stream.tokens)
    assert len(stream.prompt_logprobs) == (len(prompt) - 1 if scores_prompt else 0)
    first = 0 if scores_prompt else len(prompt) - 1
    for position, entry in enumerate([*stream.prompt_logprobs, *stream.logprobs], first):
        assert entry.token_id == token_ids[position + 1]
        row = expected[position]
        best = row.topk(NUM_TOP).values.tolist()
        assert entry.logprob == pytest.approx(float(row[entry.token_id]), abs=TOLERANCE)
        assert list(entry.top_logprobs) == pytest.approx(best, abs=TOLERANCE)
        assert row[list(entry.top_ids)].tolist() == pytest.approx(best, abs=TOLERANCE)


async def submit(
    harness: Harness, source: ModelSource, prompt: Sequence[int], num: int, **sampling: object
) -> RequestId:
    asked = {"num_logprobs": NUM_TOP, "num_prompt_logprobs": NUM_TOP, **sampling}
    return await harness.submit(source.name, prompt, num, **asked)  # type: ignore[arg-type]


async def run_and_check(
    tiny_models: TinyModels, harness: Harness, requests: Sequence[tuple[ModelSource, list[int]]], num_tokens: int
) -> list[Stream]:
    ids = [await submit(harness, source, prompt, num_tokens) for source, prompt in requests]
    streams = [await harness.finish(request_id) for request_id in ids]
    for (source, prompt), stream in zip(requests, streams, strict=True):
        assert stream.tokens == tiny_models.generate(source, prompt, num_tokens, stream.tokens)
        check(tiny_models, source, prompt, stream)
    return streams


@pytest.mark.parametrize("max_step_tokens", [7, 256])
@pytest.mark.parametrize("family", FAMILIES)
async def test_together_and_in_chunks(tiny_models: TinyModels, family: str, max_step_tokens: int) -> None:
    source = tiny_models.source(family)
    async with running_worker(tiny_models.config([source], max_step_tokens=max_step_tokens)) as harness:
        await run_and_check(tiny_models, harness, [(source, prompt) for prompt in prompts(6)], NUM_TOKENS)


async def test_two_models_switched_every_step_with_memory_for_one(tiny_models: TinyModels) -> None:
    sources = tiny_models.source("gemma3"), tiny_models.source("llama", seed=1)
    config = tiny_models.config(sources, device_memory_bytes=ONE_MODEL_BYTES + KV_BYTES, turn_steps=1)
    async with running_worker(config) as harness:
        requests = [(source, prompt) for prompt in prompts(2) for source in sources]
        await run_and_check(tiny_models, harness, requests, NUM_TOKENS)
    assert all(a.model != b.model for a, b in pairwise(harness.switches))
    assert len(harness.switches) >= 2 * NUM_TOKENS


@pytest.mark.parametrize("num_host_blocks", [0, 100])
async def test_preempted_and_resumed(tiny_models: TinyModels, num_host_blocks: int) -> None:
    """Its KV computed again, or moved to host memory and back."""
    source = tiny_models.source("llama")
    block_bytes = tiny_models.block_bytes(source)
    config = tiny_models.config(
        [source],
        kv_memory_bytes=24 * block_bytes,
        slab_bytes=4 * block_bytes,
        host_kv_memory_bytes=num_host_blocks * block_bytes or 1,
        max_step_tokens=20,
    )
    async with running_worker(config) as harness:
        requests = [(source, prompt) for prompt in prompts(8, seed=2)]
        streams = await run_and_check(tiny_models, harness, requests, num_tokens=60)
    assert sum(stream.ended.num_preemptions for stream in streams if stream.ended) > 0


@pytest.mark.parametrize("family", ("gemma3", "mistral"))
async def test_swapped_out_and_in_at_every_step(
    tiny_models: TinyModels, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap_at_every_step(monkeypatch)
    source = tiny_models.source(family)
    config = tiny_models.config([source], host_kv_memory_bytes=KV_BYTES, max_step_tokens=20)
    async with running_worker(config) as harness:
        await run_and_check(tiny_models, harness, [(source, prompt) for prompt in prompts(3, seed=3)], NUM_TOKENS)


async def test_a_prompt_that_is_scored_takes_no_kv_of_others_and_leaves_its_own(tiny_models: TinyModels) -> None:
    source, prompt = tiny_models.source("llama"), list(range(2, 72))
    async with running_worker(tiny_models.config([source], max_step_tokens=20)) as harness:
        for scores_prompt, num_cached in ((False, 0), (True, 0), (False, 64)):
            num_prompt_logprobs = NUM_TOP if scores_prompt else None
            request_id = await submit(harness, source, prompt, 5, num_prompt_logprobs=num_prompt_logprobs)
            stream = await harness.finish(request_id)
            check(tiny_models, source, prompt, stream, scores_prompt=scores_prompt)
            assert stream.ended is not None
            assert stream.ended.num_cached_tokens == num_cached


async def test_they_are_those_before_bias_penalties_and_temperature(tiny_models: TinyModels) -> None:
    source, prompt = tiny_models.source("qwen3"), prompts(1)[0]
    greedy = tiny_models.generate(source, prompt, NUM_TOKENS)
    async with running_worker(tiny_models.config([source])) as harness:
        request_id = await submit(
            harness,
            source,
            prompt,
            NUM_TOKENS,
            temperature=2.0,
            top_k=50,
            repetition_penalty=1.5,
            presence_penalty=1.0,
            logit_bias=((greedy[0], -100.0), (9, 1.0)),
        )
        stream = await harness.finish(request_id)
    assert greedy[0] not in stream.tokens
    assert stream.logprobs[0].top_ids[0] == greedy[0]
    check(tiny_models, source, prompt, stream)


async def test_who_does_not_ask_gets_none_and_the_same_tokens(tiny_models: TinyModels) -> None:
    source = tiny_models.source("llama")
    async with running_worker(tiny_models.config([source])) as harness:
        ids = []
        for number, prompt in enumerate(prompts(6)):
            asked = {} if number % 2 else {"num_logprobs": None, "num_prompt_logprobs": None}
            ids.append(await submit(harness, source, prompt, NUM_TOKENS, **asked))
        streams = [await harness.finish(request_id) for request_id in ids]
    for number, (prompt, stream) in enumerate(zip(prompts(6), streams, strict=True)):
        assert stream.tokens == tiny_models.generate(source, prompt, NUM_TOKENS, stream.tokens)
        if number % 2:
            check(tiny_models, source, prompt, stream)
        else:
            assert (stream.logprobs, stream.prompt_logprobs) == ([], [])


async def test_a_step_holds_the_logits_of_so_many_tokens_of_prompts(
    tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_models, "max_scored_tokens", lambda vocab_size: 5)
    source, asked = tiny_models.source("llama"), [list(range(2, 40)), list(range(3, 30)), [5]]
    async with running_worker(tiny_models.config([source])) as harness:
        async with gated_steps(monkeypatch) as gate:
            ids = [await submit(harness, source, prompt, 3) for prompt in asked]
            for _ in range(10):
                parts = await gate.arrival()
                assert sum(len(part.scored.token_ids) for part in parts if part.scored) <= 5
                gate.let()
        for prompt, request_id in zip(asked, ids, strict=True):
            check(tiny_models, source, prompt, await harness.finish(request_id))


async def test_what_was_lost_is_said_again(tiny_models: TinyModels) -> None:
    """Frames with parts of the prompt, and such with tokens."""
    source, prompt = tiny_models.source("llama"), list(range(2, 72))
    rng = random.Random(8)
    async with running_worker(tiny_models.config([source], max_step_tokens=16)) as harness:
        harness.acknowledge = False
        request_id = await submit(harness, source, prompt, 6)
        whole = await harness.finish(request_id)
        check(tiny_models, source, prompt, whole)
        for _ in range(5):
            num_scored, num_tokens = rng.randrange(len(prompt)), rng.randrange(7)
            known = Stream(whole.tokens[:num_tokens], whole.logprobs[:num_tokens], whole.prompt_logprobs[:num_scored])
            harness.streams[request_id] = known
            await harness.resend(request_id, num_tokens, first_prompt_logprob=num_scored)
            again = await harness.finish(request_id)
            assert (again.tokens, again.logprobs) == (whole.tokens, whole.logprobs)
            assert again.prompt_logprobs == whole.prompt_logprobs


async def test_a_later_attempt_goes_on_with_its_own_tokens(tiny_models: TinyModels) -> None:
    source, prompt = tiny_models.source("llama"), prompts(1)[0]
    async with running_worker(tiny_models.config([source])) as harness:
        request_id = await submit(harness, source, prompt, NUM_TOKENS)
        first = await harness.finish(request_id)
        again = await harness.submit(
            source.name, prompt, NUM_TOKENS, output=first.tokens[:9], attempt=1, request_id="again",
            num_logprobs=NUM_TOP, num_prompt_logprobs=NUM_TOP,
        )  # fmt: skip
        stream = harness.streams[again]
        stream.tokens += first.tokens[:9]
        stream.logprobs += first.logprobs[:9]
        await harness.finish(again)
    assert stream.tokens == first.tokens
    assert stream.prompt_logprobs == list[TokenLogprobs]()
    stream.prompt_logprobs = first.prompt_logprobs
    check(tiny_models, source, prompt, stream)
