"""What a client sees of each kind of switch: a worker with its engine on an in-memory bus, asked for one token.

The time to the first token runs from the publication of the assignment to the arrival of the frame. In it: encoding and
decoding of both messages, the queue until the step in progress has ended, the switch, a prefill of the whole prompt,
sampling, publication. Not in it: gateway, NATS and router, which `overhead` measures.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from benchmarks.bare_worker import BareWorker, Request, running
from benchmarks.models import LoadedModel
from benchmarks.switch.stage import PROMPT_TOKENS, room_for_all, room_for_one
from benchmarks.switch.timings import Timings
from benchmarks.switch.waits import drop_pages
from shared.catalogue import demo_models
from shared.config import Config, ModelSource, WorkerConfig, load_config
from shared.ids import ModelName

WAYS: Final = ("resident", "unified", "prefetched", "streamed", "plain", "from disk")
_KV_BYTES: Final = 256 << 20
_MIN_TOKEN_ID: Final = 100
_MAX_TOKEN_ID: Final = 40_000  # both demo models have more
_HOST_SPARE_BYTES: Final = 16 << 20
_OTHERS_TOKENS: Final = 512  # more than it gets to decode
_LONG_TURN: Final = 100_000  # steps: longer than any copy takes

# No prompt is like another, but their beginnings are not looked up either.
_WORKER: Final = WorkerConfig(dtype="bfloat16", kv_memory_bytes=_KV_BYTES, prefix_cache=False)


class Client:
    def __init__(self, worker: BareWorker) -> None:
        self._worker = worker
        self._rng = random.Random(0)

    async def ask(self, model: ModelName, num_tokens: int = 1) -> Request:
        prompt = [self._rng.randint(_MIN_TOKEN_ID, _MAX_TOKEN_ID) for _ in range(PROMPT_TOKENS)]
        return await self._worker.submit(model, prompt, num_tokens)

    async def time(self, model: ModelName, kind: str) -> tuple[float, float]:
        """Milliseconds to the first token, and those in which the device waited. It has to be this kind of switch."""
        request = await self.ask(model)
        await self._worker.finish(request)
        switch = await self._worker.switch_to(model)
        if switch.kind != kind:
            raise RuntimeError(f"the switch to {model} was {switch.kind} instead of {kind}")
        return request.ttft_s * 1e3, switch.waited_s * 1e3


async def first_tokens(models: Sequence[LoadedModel], repeats: int, link: int, timings: Timings) -> None:
    """Every way but from disk: "... TTFT" and "... waited"."""
    one, all_of_them = (
        replace(_WORKER, device_memory_bytes=_KV_BYTES + room(models)) for room in (room_for_one, room_for_all)
    )
    await _in_turns("resident", "resident", all_of_them, models, repeats, timings)
    await _in_turns("unified", "resident", _WORKER, models, repeats, timings)
    await _in_turns("plain", "copied", one, models, repeats, timings)
    await _in_turns("streamed", "streamed", replace(one, link_bandwidth_bytes=link), models, repeats, timings)
    for model in models:
        await _ahead(model, repeats, link, timings)


async def first_tokens_from_disk(models: Sequence[LoadedModel], repeats: int, timings: Timings) -> None:
    """The host cache has room for one of the models, and the page cache is emptied of them before each request.

    Nobody else may map the files.
    """
    largest_bytes = max(model.blob_bytes for model in models)
    settings = replace(
        _WORKER,
        device_memory_bytes=_KV_BYTES + room_for_one(models),
        host_memory_bytes=largest_bytes + _HOST_SPARE_BYTES,
    )
    await _in_turns("from disk", "from disk", settings, models, repeats, timings, drop=True)


async def _in_turns(
    way: str,
    kind: str,
    settings: WorkerConfig,
    models: Sequence[LoadedModel],
    repeats: int,
    timings: Timings,
    *,
    drop: bool = False,
) -> None:
    """One request at a time, each for another model than the one before."""
    async with running(_config([_source(model.name) for model in models], settings)) as worker:
        client = Client(worker)
        for model in models:  # warms up, and is whatever kind it is
            await worker.finish(await client.ask(model.name))
        for _ in range(repeats):
            for model in models:
                if drop:
                    drop_pages(model.weights_file)
                _note(timings, model, way, *await client.time(model.name, kind))


async def _ahead(model: LoadedModel, repeats: int, link: int, timings: Timings) -> None:
    """Three models of these weights in turns, memory for two: the next one is asked for while another one decodes."""
    sources = [_source(model.name, f"{model.name}-{number}") for number in range(3)]
    names = [ModelName(source.name) for source in sources]
    settings = replace(
        _WORKER,
        device_memory_bytes=_KV_BYTES + room_for_all([model, model]),
        link_bandwidth_bytes=link,
        policy="round-robin",
        turn_steps=_LONG_TURN,
    )
    async with running(_config(sources, settings)) as worker:
        client = Client(worker)
        await worker.finish(await client.ask(names[0]))
        for repeat in range(repeats):
            other = await client.ask(names[repeat % 3], _OTHERS_TOKENS)
            await other.has_tokens.wait()
            _note(timings, model, "prefetched", *await client.time(names[(repeat + 1) % 3], "prefetched"))
            await worker.cancel(other)
            await worker.finish(other)


def _note(timings: Timings, model: LoadedModel, way: str, ttft_ms: float, waited_ms: float) -> None:
    timings.add(model.name, f"{way} TTFT", ttft_ms)
    timings.add(model.name, f"{way} waited", waited_ms)


def _source(name: str, served_as: str = "") -> ModelSource:
    """The demo model of that name, under another one if need be."""
    path = next(source.path for source in demo_models(load_config().cache_dir) if source.name == name)
    return ModelSource(served_as or name, path)


def _config(sources: Sequence[ModelSource], settings: WorkerConfig) -> Config:
    return Config(models=tuple(sources), cache_dir=Path(load_config().cache_dir), worker=settings, log_level="warning")
