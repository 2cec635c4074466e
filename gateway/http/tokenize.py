"""POST /tokenize and /detokenize, GET /version: vLLM's, for clients that count tokens themselves."""

import importlib.metadata
from typing import Final

import msgspec
from aiohttp import web

from gateway.http.bodies import json_response, parse
from gateway.http.openai.chat import RequestMessage, chat_of
from gateway.models import Models
from gateway.params import invalid
from gateway.prompts import Prompts, Text
from shared.ids import ModelName


class TokenizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Exactly one of prompt and messages is given."""

    model: str
    prompt: str | None = None
    messages: list[RequestMessage] | None = None
    add_special_tokens: bool | None = None  # default: to a prompt; the template writes those of messages
    return_token_strs: bool | None = None


class TokenizeResponse(msgspec.Struct, frozen=True):
    count: int
    max_model_len: int
    tokens: tuple[int, ...]
    token_strs: tuple[str, ...] | None = None


class DetokenizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    tokens: tuple[int, ...]


class DetokenizeResponse(msgspec.Struct, frozen=True):
    prompt: str


class Version(msgspec.Struct, frozen=True):
    version: str


tokenize_decoder: Final = msgspec.json.Decoder(TokenizeRequest)
detokenize_decoder: Final = msgspec.json.Decoder(DetokenizeRequest)


class TokenizeRoutes:
    def __init__(self, models: Models, prompts: Prompts) -> None:
        self._models = models
        self._prompts = prompts
        self._version = Version(importlib.metadata.version("kottos"))

    def add_to(self, app: web.Application) -> None:
        app.add_routes(
            [
                web.post("/tokenize", self.tokenize),
                web.post("/detokenize", self.detokenize),
                web.get("/version", self.version),
            ]
        )

    async def tokenize(self, request: web.Request) -> web.Response:
        asked = parse(await request.read(), tokenize_decoder)
        if (asked.prompt is None) == (asked.messages is None):
            raise invalid("Exactly one of prompt and messages must be given.", "prompt")
        prompt = chat_of(asked.messages) if asked.messages is not None else Text(asked.prompt or "")
        is_text = isinstance(prompt, Text)
        model = self._models.get(ModelName(asked.model))
        encoded = await self._prompts.tokenize(
            model,
            prompt,
            add_special_tokens=is_text if asked.add_special_tokens is None else asked.add_special_tokens,
            with_tokens=bool(asked.return_token_strs),
        )
        return json_response(
            TokenizeResponse(
                len(encoded.token_ids),
                self._models.context_length(model),
                encoded.token_ids,
                encoded.tokens if asked.return_token_strs else None,
            )
        )

    async def detokenize(self, request: web.Request) -> web.Response:
        asked = parse(await request.read(), detokenize_decoder)
        model = self._models.get(ModelName(asked.model))
        return json_response(DetokenizeResponse(await self._prompts.detokenize(model, asked.tokens)))

    async def version(self, request: web.Request) -> web.Response:
        return json_response(self._version)
