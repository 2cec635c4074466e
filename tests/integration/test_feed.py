"""What a viewer of the feed sees of a real worker, through a real gateway."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from msgspec.structs import replace

from gateway.app import open_gateway
from shared import subjects
from shared.config import GatewayConfig
from shared.memory_bus import MemoryBroker
from shared.messages import Timeline, Watch, WorkerState
from tests.integration.tiny_models import TinyModels
from tests.integration.worker_harness import TIMEOUT_S, WORKER, running_worker
from tests.recorder import Recorder

PROMPT = list(range(2, 42))
NUM_TOKENS = 24
ONE_MODEL_BYTES = 2 << 20  # of the weight region
KV_BYTES = 4 << 20
_ROUNDING_S = 2e-6


async def events_of(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    async for line in response.content:
        if line.startswith(b"data: "):
            yield msgspec.json.decode(line.removeprefix(b"data: "))


async def state_where(
    events: AsyncIterator[dict[str, Any]], accept: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """The next one whose only worker is accepted."""
    while (event := await anext(events))["type"] != "state" or not any(map(accept, event["workers"])):
        pass
    return event


def num_tokens(turns: list[dict[str, Any]], model: str) -> tuple[int, int]:
    """Of prompts, of decodes."""
    steps = [step for turn in turns if turn["model"] == model for step in turn["steps"]]
    return sum(step[2] for step in steps), sum(step[3] for step in steps)


async def test_a_viewer_sees_every_step_and_switch_of_a_real_worker(tiny_models: TinyModels, tmp_path: Path) -> None:
    sources = [tiny_models.source("llama"), tiny_models.source("gemma3")]
    config = tiny_models.config(sources, device_memory_bytes=ONE_MODEL_BYTES + KV_BYTES, turn_steps=3)
    config = replace(config, gateway=GatewayConfig(port=0), state_dir=tmp_path)
    broker = MemoryBroker()
    async with (
        running_worker(config, broker=broker) as worker,
        open_gateway(config, broker.connect("gateway")) as gateway,
        aiohttp.ClientSession(f"http://{gateway.host}:{gateway.port}") as http,
        http.get("/admin/feed") as response,
        asyncio.timeout(TIMEOUT_S),
    ):
        events = events_of(response)
        await state_where(events, lambda worker: bool(worker["policy"]))  # it has heard that somebody watches
        num_before = len(worker.switches)
        await worker.run_all([(source, PROMPT, NUM_TOKENS) for source in sources])
        turns: list[dict[str, Any]] = []
        expected = [(len(PROMPT), NUM_TOKENS - 1)] * 2  # a prompt's last step draws the first token
        while [num_tokens(turns, source.name) for source in sources] != expected:
            if (event := await anext(events))["type"] == "turns":
                assert event["worker"] == WORKER
                turns += event["turns"]
        states = [await state_where(events, lambda worker: worker["tokens_per_s"] > 0 and worker["switches_per_s"] > 0)]
        states.append(await state_where(events, lambda worker: [*worker["device"]["models"]] == [turns[-1]["model"]]))
        switches = worker.switches[num_before:]
    told = [turn for turn in turns if turn["switch"] is not None]
    assert [(turn["model"], turn["switch"]["kind"]) for turn in told] == [(s.model, s.kind) for s in switches]
    assert [turn["switch"]["copied_bytes"] for turn in told] == [switch.copied_bytes for switch in switches]
    assert len(told) > 2 and told[0] is turns[0]
    for turn, following in itertools.pairwise(turns):
        offset_s, duration_s = turn["steps"][-1][:2]
        assert turn["began_at_s"] + offset_s + duration_s <= following["began_at_s"] + _ROUNDING_S
        assert following["switch"] is not None or following["model"] == turn["model"]
    assert all(0 < turn["began_at_s"] < states[0]["at_s"] for turn in turns)
    assert sum(model["tokens_per_s"] for model in states[0]["models"]) > 0

    [shown] = states[1]["workers"]
    sizes = {source.name: tiny_models.weights_file(source).stat().st_size for source in sources}
    resident = turns[-1]["model"]
    assert (shown["policy"], shown["host"]["models"]) == ("round-robin", sizes)
    assert shown["device"] == {"total_bytes": ONE_MODEL_BYTES, "models": {resident: sizes[resident]}}
    assert {model["model"]: model["state"] for model in states[1]["models"]}[resident] == "resident"


async def test_workers_tell_nothing_unless_somebody_watches(tiny_models: TinyModels) -> None:
    source = tiny_models.source("llama")
    async with running_worker(tiny_models.config([source])) as worker:
        heard = Recorder()
        await worker.bus.subscribe(subjects.TIMELINE, heard)
        await worker.run_all([(source, PROMPT, 4)])
        await worker.beats()
        assert heard.messages == []
        await worker.bus.publish(subjects.WATCH, Watch())
        [state] = await heard.wait_for(1)
        assert isinstance(state, WorkerState) and state.worker == WORKER
        await worker.run_all([(source, PROMPT, 4)])
        timelines = [message for message in await heard.wait_for(2) if isinstance(message, Timeline)]
        assert timelines and all(turn.model == source.name for line in timelines for turn in line.turns)
