"""POST /v1/embeddings: refused, so that clients hear why."""

from typing import Final

import msgspec
from aiohttp import web

from gateway.http.bodies import parse
from gateway.http.model_access import ModelAccess
from gateway.request.params import invalid


class EmbeddingsRequest(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    input: str | list[str | int | list[int]]


embeddings_decoder: Final = msgspec.json.Decoder(EmbeddingsRequest)


class EmbeddingsRoutes:
    def __init__(self, access: ModelAccess) -> None:
        self._access = access

    def add_to(self, app: web.Application) -> None:
        app.add_routes([web.post("/v1/embeddings", self.create)])

    async def create(self, request: web.Request) -> web.StreamResponse:
        asked = parse(await request.read(), embeddings_decoder)
        self._access.model(asked.model, request)
        raise invalid(
            f"The model {asked.model!r} generates text: it was not trained to embed, and no other kind of model is "
            "served here.",
            "model",
        )
