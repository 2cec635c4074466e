"""What an owner lost and asks for again, and owners that are gone."""

import pytest

from gpu_worker import engine as engine_module
from shared.errors import ErrorCode
from shared.ids import RequestId
from tests.integration.step_gate import gated_steps
from tests.integration.tiny_models import TinyModels
from tests.integration.worker_harness import OWNER, Harness, Stream, running_worker

PROMPT = list(range(2, 42))


def forget(harness: Harness, request_id: RequestId) -> None:
    """As an owner that has heard nothing of it."""
    harness.streams[request_id] = Stream()


async def test_tokens_of_a_lost_frame_are_said_again(tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tiny_models.source("llama")
    async with running_worker(tiny_models.config([source])) as harness, gated_steps(monkeypatch) as gate:
        request_id = await harness.submit(source.name, PROMPT, 12)
        await gate.arrival()
        gate.let(3)
        await harness.tokens(request_id, 3)
        harness.broker.drop_next("kottos.owner.*", 2)
        gate.let(3)
        while gate.num_steps < 7:
            await gate.arrival()
        assert [frame.number for frame in harness.frames] == [1, 2, 3, 6]
        assert len(harness.streams[request_id].tokens) == 3
        await harness.resend(request_id, first=3)
        gate.open()
        assert (await harness.finish(request_id)).tokens == tiny_models.generate(source, PROMPT, 12)


async def test_a_lost_last_frame_shows_in_the_beat(tiny_models: TinyModels) -> None:
    source = tiny_models.source("llama")
    async with running_worker(tiny_models.config([source])) as harness:
        harness.broker.drop_next("kottos.owner.*")
        request_id = await harness.submit(source.name, PROMPT, 1)
        await harness.beat_where(lambda beat: beat.last_frames == {OWNER: 1})
        assert harness.frames == []
        await harness.resend(request_id, first=0)
        stream = await harness.finish(request_id)
        assert stream.tokens == tiny_models.generate(source, PROMPT, 1)
        assert stream.ended is not None
        assert stream.ended.reason == "length"


async def test_an_end_can_be_asked_for_until_it_is_acknowledged(tiny_models: TinyModels) -> None:
    source = tiny_models.source("llama")
    async with running_worker(tiny_models.config([source])) as harness:
        harness.acknowledge = False
        request_id = await harness.submit(source.name, PROMPT, 5)
        first = await harness.finish(request_id)
        for _ in range(2):
            forget(harness, request_id)
            await harness.resend(request_id, first=0)
            again = await harness.finish(request_id)
            assert (again.tokens, again.ended) == (first.tokens, first.ended)
        await harness.acknowledge_end(request_id)
        forget(harness, request_id)
        await harness.resend(request_id, first=0)
        lost = await harness.finish(request_id)
        assert lost.ended is not None
        assert (lost.tokens, lost.ended.reason, lost.ended.code) == ([], "error", ErrorCode.INTERNAL)


async def test_an_owner_that_stops_beating_is_freed(tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "_OWNER_BEAT_S", 0.02)
    source = tiny_models.source("llama")
    async with running_worker(tiny_models.config([source], max_running=1), owner_beats=False) as harness:
        running, waiting = [await harness.submit(source.name, PROMPT, 400) for _ in range(2)]
        await harness.tokens(running, 1)
        beat = await harness.beat_where(lambda beat: not beat.models[0].num_running and not beat.models[0].num_waiting)
        assert beat.kv_used_bytes == 0
        assert (harness.streams[running].ended, harness.streams[waiting].ended) == (None, None)
        assert len(harness.streams[running].tokens) < 400
        forget(harness, running)
        await harness.resend(running, first=0)  # it comes back
        lost = (await harness.finish(running)).ended
        assert lost is not None
        assert lost.code is ErrorCode.INTERNAL
