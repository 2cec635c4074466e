"""Models come and go while a gateway serves: by the catalogue in force, as its steward says it."""

import asyncio
from pathlib import Path

import openai
import pytest
from msgspec.structs import replace

from shared import subjects
from shared.catalogue import described
from shared.config import Config, GatewayConfig, ModelSource
from shared.ids import Incarnation
from shared.messages import AnyMessage, Catalogue, OwnerBeat
from tests.integration.gateway_harness import ASLEEP, BASE, CHAT, Stack, make_config, open_stack
from tests.unit.gateway.tiny_models import import_model, write_source

STEWARD = Incarnation("steward-0")
NEW = "tiny-new"


async def is_ready(stack: Stack, name: str) -> None:
    """By the gateway's own beats, which operators hear."""
    ready = asyncio.Event()

    def hear(message: AnyMessage) -> None:
        if isinstance(message, OwnerBeat) and name in message.models:
            ready.set()

    bus = stack.broker.connect("operator")
    await bus.start()
    await bus.subscribe(subjects.BEAT_OWNER, hear)
    async with asyncio.timeout(20):
        await ready.wait()
    await bus.close()


async def test_a_model_that_comes_is_unknown_then_loading_then_answers(tmp_path: Path) -> None:
    async with open_stack(tmp_path) as stack, stack.client() as client:
        config: Config = make_config(tmp_path / "same", GatewayConfig())
        new: ModelSource = write_source(tmp_path / "sources" / NEW, NEW)
        with pytest.raises(openai.NotFoundError):
            await client.completions.create(model=NEW, prompt="fox")
        operator = stack.broker.connect("steward")
        await operator.start()
        await operator.publish(subjects.CATALOGUE, Catalogue(STEWARD, 1, described([*config.models, new])))
        with pytest.raises(openai.InternalServerError, match="its state is: loading"):
            await client.completions.create(model=NEW, prompt="fox")
        import_model(replace(config, models=(new,), cache_dir=tmp_path / "cache"), NEW)
        await is_ready(stack, NEW)
        stack.says(" dog")
        answer = await client.completions.create(model=NEW, prompt="fox")
        assert answer.choices[0].text == " dog"
        await operator.close()


async def test_a_model_that_goes_is_unknown_and_its_streams_end_whole(tmp_path: Path) -> None:
    async with open_stack(tmp_path) as stack, stack.client() as client:
        config = make_config(tmp_path / "same", GatewayConfig())
        stack.says("The quick brown fox")
        stream = await client.completions.create(model=BASE, prompt="fox", stream=True)
        steward = stack.broker.connect("steward")
        await steward.start()
        staying = described([model for model in config.models if model.name != BASE])
        await steward.publish(subjects.CATALOGUE, Catalogue(STEWARD, 1, staying))
        with pytest.raises(openai.NotFoundError):
            await client.completions.create(model=BASE, prompt="fox")
        assert [model.id async for model in client.models.list()] == [CHAT, ASLEEP]
        assert "".join([chunk.choices[0].text async for chunk in stream]) == "The quick brown fox"
        await steward.close()
