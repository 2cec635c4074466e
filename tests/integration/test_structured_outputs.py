"""Outputs that have to match a grammar, by a real worker: whatever happens meanwhile, they do."""

import asyncio
import json
import re
import threading
from typing import Any

import jsonschema
import pytest

from benchmarks.tiny_models import EOS_ID, make_tiny_tokenizer
from gateway.request.structured import one_line
from gpu_worker.guidance.process import GrammarProcess, ProcessGuide
from shared.errors import ErrorCode
from shared.grammar import to_grammar
from shared.ids import RequestId
from tests.integration.step_gate import gated_steps
from tests.integration.test_exactness import KV_BYTES, ONE_MODEL_BYTES
from tests.integration.test_kv_swap import swap_at_every_step
from tests.integration.tiny_models import TinyModels
from tests.integration.worker_harness import Harness, Stream, running_worker

SCHEMA = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["one", "another"]},
        "sizes": {"type": "array", "items": {"type": "integer", "minimum": -9, "maximum": 99}, "maxItems": 4},
        "label": {"type": "string", "maxLength": 5},
        "inner": {
            "type": "object",
            "properties": {"flag": {"type": "boolean"}},
            "required": ["flag"],
            "additionalProperties": False,
        },
    },
    "required": ["kind", "sizes", "label", "inner"],
    "additionalProperties": False,
}
GRAMMAR = to_grammar("json", json.dumps(one_line(SCHEMA)))
DIGITS = to_grammar("regex", "[0-9]+")
PROMPT = list(range(2, 21))
NUM_TOKENS = 160
tokenizer = make_tiny_tokenizer()


async def submit(harness: Harness, model: str, seed: int = 0, **sampling: Any) -> RequestId:
    settings: dict[str, Any] = {
        "grammar": GRAMMAR,
        "temperature": 1.0,
        "stop_token_ids": (EOS_ID,),
        "seed": seed,
        **sampling,
    }
    return await harness.submit(model, PROMPT, settings.pop("max_tokens", NUM_TOKENS), **settings)


async def run(harness: Harness, model: str, seed: int = 0, **sampling: Any) -> Stream:
    return await harness.finish(await submit(harness, model, seed, **sampling))


def text(stream: Stream) -> str:
    return str(tokenizer.decode(stream.tokens, skip_special_tokens=True))


def assert_valid(stream: Stream) -> None:
    assert stream.ended is not None
    assert stream.ended.reason == "stop", stream.ended
    jsonschema.validate(json.loads(text(stream)), SCHEMA)


def end(stream: Stream) -> tuple[str, ErrorCode | None]:
    assert stream.ended is not None
    return stream.ended.reason, stream.ended.code


async def test_outputs_are_what_was_asked_for_beside_others_that_are_free(tiny_models: TinyModels) -> None:
    source = tiny_models.source("llama")
    async with running_worker(tiny_models.config([source])) as harness:
        free = await harness.submit(source.name, PROMPT, 40)
        ids = [await submit(harness, source.name, seed) for seed in range(6)]
        greedy = await submit(harness, source.name, temperature=0.0)
        streams = [await harness.finish(request_id) for request_id in ids]
        for stream in (*streams, await harness.finish(greedy)):
            assert_valid(stream)
        assert len({text(stream) for stream in streams}) > 1
        assert (await harness.finish(free)).tokens == tiny_models.generate(source, PROMPT, 40)


async def test_two_models_switched_at_every_step_and_swapped_out_and_in(
    tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same tokens as alone, with nothing moved."""
    first, second = tiny_models.source("llama"), tiny_models.source("gemma3", seed=1)
    models = [source.name for source in (first, second)]
    async with running_worker(tiny_models.config([first, second])) as harness:
        alone = [(await run(harness, name, seed)).tokens for name in models for seed in range(2)]
    swap_at_every_step(monkeypatch)
    config = tiny_models.config(
        [first, second],
        device_memory_bytes=ONE_MODEL_BYTES + KV_BYTES,
        host_kv_memory_bytes=KV_BYTES,
        turn_steps=1,
        max_step_tokens=20,
    )
    async with running_worker(config) as harness:
        ids = [await submit(harness, name, seed) for name in models for seed in range(2)]
        streams = [await harness.finish(request_id) for request_id in ids]
    for stream in streams:
        assert_valid(stream)
        assert stream.ended is not None
        assert stream.ended.num_preemptions > 5
    assert [stream.tokens for stream in streams] == alone
    assert len(harness.switches) > 20


async def test_a_new_attempt_goes_on_where_the_client_is(tiny_models: TinyModels) -> None:
    source = tiny_models.source("llama")
    async with running_worker(tiny_models.config([source])) as harness:
        whole = (await run(harness, source.name, seed=4)).tokens
        for num_known in (1, len(whole) // 2, len(whole) - 1, len(whole)):
            known = whole[:num_known]
            request_id = await submit(harness, source.name, seed=4, output=known, attempt=1)
            harness.streams[request_id].tokens += known
            stream = await harness.finish(request_id)
            assert stream.tokens == whole
            assert_valid(stream)


async def test_others_run_while_a_grammar_is_compiled(tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tiny_models.source("llama")
    began, may_end = threading.Event(), threading.Event()
    guide = GrammarProcess.guide

    def slow_guide(process: GrammarProcess, grammar: str, output: tuple[int, ...]) -> ProcessGuide:
        began.set()
        assert may_end.wait(30)
        return guide(process, grammar, output)

    monkeypatch.setattr(GrammarProcess, "guide", slow_guide)
    async with running_worker(tiny_models.config([source])) as harness:
        ids = [await submit(harness, source.name, seed) for seed in range(4)]
        assert await asyncio.to_thread(began.wait, 30)
        free = await harness.submit(source.name, PROMPT, 20)
        assert (await harness.finish(free)).tokens == tiny_models.generate(source, PROMPT, 20)
        beat = await harness.beats()
        assert beat.models[0].num_waiting == 4
        for request_id in (ids[0], ids[3]):
            await harness.cancel(request_id, source.name)
            assert end(await harness.finish(request_id)) == ("cancelled", None)
        may_end.set()
        for request_id in ids[1:3]:
            assert_valid(await harness.finish(request_id))


async def test_a_model_that_leaves_waits_for_grammars_that_are_compiled(
    tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tiny_models.source("llama"), tiny_models.source("gemma3")
    began, may_end = threading.Event(), threading.Event()
    guide = GrammarProcess.guide

    def slow_guide(process: GrammarProcess, grammar: str, output: tuple[int, ...]) -> ProcessGuide:
        began.set()
        assert may_end.wait(30)
        return guide(process, grammar, output)

    monkeypatch.setattr(GrammarProcess, "guide", slow_guide)
    async with running_worker(tiny_models.config([first, second])) as harness:
        request_id = await submit(harness, first.name)
        assert await asyncio.to_thread(began.wait, 30)
        await harness.serve([second])
        await harness.beat_where(lambda beat: any(load.state == "leaving" for load in beat.models))
        may_end.set()
        assert_valid(await harness.finish(request_id))
        await harness.beat_where(lambda beat: [load.model for load in beat.models] == [second.name])


async def test_a_grammar_that_cannot_be_compiled_ends_its_own_sequence(tiny_models: TinyModels) -> None:
    """A gateway would have refused it."""
    source = tiny_models.source("llama")
    async with running_worker(tiny_models.config([source])) as harness:
        bad = await submit(harness, source.name, grammar="start: nothing")
        unlike = await submit(harness, source.name, output=[40, 41], attempt=1)
        harness.streams[unlike].tokens += [40, 41]
        good = await submit(harness, source.name)
        assert end(await harness.finish(bad)) == ("error", ErrorCode.INVALID_REQUEST)
        assert end(await harness.finish(unlike)) == ("error", ErrorCode.INVALID_REQUEST)
        assert_valid(await harness.finish(good))


async def test_a_matcher_that_fails_in_a_step_ends_its_own_sequence(
    tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny_models.source("llama")
    accept = ProcessGuide.accept

    def failing(guide: ProcessGuide, token_id: int, *, is_stop: bool) -> bool:
        if guide not in failing_guides:
            return accept(guide, token_id, is_stop=is_stop)
        guide.failure = "too complex"
        return False

    failing_guides: list[ProcessGuide] = []
    make = GrammarProcess.guide

    def noted(process: GrammarProcess, grammar: str, output: tuple[int, ...]) -> ProcessGuide:
        guide = make(process, grammar, output)
        if grammar == DIGITS:
            failing_guides.append(guide)
        return guide

    monkeypatch.setattr(GrammarProcess, "guide", noted)
    async with running_worker(tiny_models.config([source])) as harness:
        failed = await submit(harness, source.name, grammar=DIGITS)
        good = await submit(harness, source.name)
        await harness.tokens(failed, 1)
        monkeypatch.setattr(ProcessGuide, "accept", failing)
        assert end(await harness.finish(failed)) == ("error", ErrorCode.INVALID_REQUEST)
        assert_valid(await harness.finish(good))


async def test_a_process_that_is_lost_costs_its_sequences_another_attempt_and_others_nothing(
    tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny_models.source("llama")
    async with running_worker(tiny_models.config([source])) as harness:
        whole = (await run(harness, source.name, seed=4)).tokens
        async with gated_steps(monkeypatch) as gate:
            guided = await submit(harness, source.name, seed=4)
            free = await harness.submit(source.name, PROMPT, 20)
            gate.let(8)
            await harness.tokens(guided, 3)
            [process] = harness.service._engine._guidance._models.values()
            assert process._child is not None
            process._child.kill()
        stream = await harness.finish(guided)
        assert end(stream) == ("cancelled", None)  # which its owner did not ask for, so it tries again
        known = stream.tokens
        assert len(known) >= 3 and known == whole[: len(known)]
        again = await submit(harness, source.name, seed=4, output=known, attempt=1)
        harness.streams[again].tokens += known
        assert (await harness.finish(again)).tokens == whole
        assert (await harness.finish(free)).tokens == tiny_models.generate(source, PROMPT, 20)


async def test_ends(tiny_models: TinyModels) -> None:
    source = tiny_models.source("llama")
    async with running_worker(tiny_models.config([source])) as harness:
        cut = await run(harness, source.name, max_tokens=3)
        assert end(cut) == ("length", None)
        assert len(cut.tokens) == 3

        without_end_tokens = await run(harness, source.name, stop_token_ids=())
        assert_valid(without_end_tokens)

        digits = await run(harness, source.name, grammar=DIGITS, logit_bias=((EOS_ID, 100.0),))
        assert end(digits) == ("stop", None)
        assert digits.tokens[-1] == EOS_ID
        assert re.fullmatch("[0-9]+", text(digits))

        on_and_on = await run(harness, source.name, grammar=DIGITS, stop_token_ids=(), max_tokens=30)
        assert end(on_and_on) == ("length", None)
        assert re.fullmatch("[0-9]{30,}", text(on_and_on))

        late = await run(harness, source.name, grammar=DIGITS, min_tokens=8, logit_bias=((EOS_ID, 100.0),))
        assert len(late.tokens) == 9
        assert end(late) == ("stop", None)

        short = await run(harness, source.name, grammar=to_grammar("regex", "[ab]"), min_tokens=50)
        assert end(short) == ("stop", None)
        assert text(short) in ("a", "b")

        nothing = await run(harness, source.name, grammar=to_grammar("regex", "x?"), logit_bias=((EOS_ID, 100.0),))
        assert (text(nothing), end(nothing)) == ("", ("stop", None))


@pytest.mark.parametrize("family", ["qwen2", "gpt_neox", "qwen3_moe"])
async def test_other_families(tiny_models: TinyModels, family: str) -> None:
    source = tiny_models.source(family)
    async with running_worker(tiny_models.config([source])) as harness:
        for seed in range(2):
            assert_valid(await run(harness, source.name, seed))
