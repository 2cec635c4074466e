"""POST /tokenize and /detokenize, GET /version: vLLM's, for clients that count tokens themselves."""

import importlib.metadata
from typing import Any, Final

import msgspec
from aiohttp import web

from gateway.fleet.models import Models
from gateway.http.bodies import json_response, parse
from gateway.http.model_access import ModelAccess
from gateway.http.openai.chat import chat_of
from gateway.http.openai.messages import RequestMessage
from gateway.http.openai.tools import ToolDefinition, chat_options
from gateway.request.params import invalid
from gateway.request.prompts import Chat, Prompts, Text


class TokenizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Exactly one of prompt and messages is given."""

    model: str
    prompt: str | None = None
    messages: list[RequestMessage] | None = None
    add_special_tokens: bool | None = None  # default: to a prompt; the template writes those of messages
    return_token_strs: bool | None = None
    # of messages, as in a chat
    tools: list[ToolDefinition] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None

    def text_or_chat(self) -> Text | Chat:
        """Raises RequestError."""
        if (self.prompt is None) == (self.messages is None):
            raise invalid("Exactly one of prompt and messages must be given.", "prompt")
        if self.messages is None:
            return Text(self.prompt or "")
        options = chat_options(
            self.tools,
            chat_template_kwargs=self.chat_template_kwargs,
            add_generation_prompt=self.add_generation_prompt,
            continue_final_message=self.continue_final_message,
        )
        return chat_of(self.messages, options)


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
    def __init__(self, models: Models, access: ModelAccess, prompts: Prompts) -> None:
        self._models = models
        self._access = access
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
        prompt = asked.text_or_chat()
        is_text = isinstance(prompt, Text)
        model = self._access.model(asked.model, request)
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
        model = self._access.model(asked.model, request)
        return json_response(DetokenizeResponse(await self._prompts.detokenize(model, asked.tokens)))

    async def version(self, request: web.Request) -> web.Response:
        return json_response(self._version)
