"""Waits until the stack serves, and asks it what."""

import asyncio
import contextlib

import aiohttp
import msgspec

from cli.banner import ShownModel
from shared.catalogue import open_catalogue, read_card
from shared.config import Config
from shared.ids import ModelName

_POLL_S = 0.1


class _Model(msgspec.Struct):
    id: str
    state: str = ""


class _Models(msgspec.Struct):
    data: list[_Model]


async def wait_ready(url: str, config: Config) -> list[ShownModel]:
    """Asks the gateway until a request would be served."""
    catalogue = open_catalogue(config)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5.0)) as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, msgspec.DecodeError):
                async with session.get(f"{url}/ready") as ready, session.get(f"{url}/v1/models") as models:
                    if ready.status == 200:
                        listed = msgspec.json.decode(await models.read(), type=_Models).data
                        break
            await asyncio.sleep(_POLL_S)
    cards = [read_card(catalogue[ModelName(model.id)]) for model in listed]
    return [
        ShownModel(model.id, model.state, card is not None and card.has_chat_template)
        for model, card in zip(listed, cards, strict=True)
    ]
