"""Waits until the stack serves, and asks it what."""

import asyncio
import contextlib

import aiohttp
import msgspec

from cli.banner import ShownModel
from shared.catalogue import open_catalogue, read_card
from shared.config import Config
from shared.errors import ModelError
from shared.ids import ModelName

_POLL_S = 0.1
_UNAUTHORIZED = 401


class _Model(msgspec.Struct):
    id: str
    state: str = ""
    reason: str = ""


class _Models(msgspec.Struct):
    data: list[_Model]


async def wait_ready(url: str, config: Config, key: str = "") -> list[ShownModel]:
    """Asks the gateway until a request would be served, and no model is on its way any more.

    key: an API key, where one is needed. Raises ModelError when none of them can be served.
    """
    catalogue = open_catalogue(config)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=5.0)) as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, msgspec.DecodeError):
                async with session.get(f"{url}/ready") as ready, session.get(f"{url}/v1/models") as models:
                    if models.status == _UNAUTHORIZED:  # the first key was made since this stack started
                        listed = []
                        break
                    listed = msgspec.json.decode(await models.read(), type=_Models).data
                    if listed and all(model.state == "failed" for model in listed):
                        raise ModelError(f"no model can be served: {listed[0].reason}")
                    if ready.status == 200 and not any(model.state == "loading" for model in listed):
                        break
            await asyncio.sleep(_POLL_S)
    cards = [read_card(catalogue[ModelName(model.id)]) for model in listed]
    return [
        ShownModel(model.id, model.state, card is not None and card.has_chat_template)
        for model, card in zip(listed, cards, strict=True)
    ]
