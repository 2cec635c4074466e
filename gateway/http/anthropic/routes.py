"""POST /v1/messages and /v1/messages/count_tokens."""

from collections.abc import Callable
from typing import Final

import msgspec
from aiohttp import web

from gateway.http import answers
from gateway.http.anthropic.errors import REQUEST_ID_HEADER, AnthropicStyle, error_body
from gateway.http.anthropic.request import count_tokens_decoder, messages_decoder
from gateway.http.anthropic.response import (
    Message,
    MessageDelta,
    MessageStart,
    MessageStop,
    Ping,
    StreamEvent,
    TokenCount,
    blocks_of,
    stop_of,
    usage_of,
)
from gateway.http.anthropic.writer import BlockEvents
from gateway.http.bodies import json_response, parse
from gateway.http.errors import REQUEST_ID, STYLES
from gateway.http.events import Event
from gateway.http.model_access import ModelAccess
from gateway.output.choice import Delta
from gateway.output.generation import Generation
from gateway.pipeline import Pipeline
from gateway.request.prompts import Prompts
from shared.config import GatewayConfig
from shared.errors import RequestError
from shared.ids import new_id

PATH: Final = "/v1/messages"
_encoder: Final = msgspec.json.Encoder()


class MessagesRoutes:
    def __init__(
        self,
        pipeline: Pipeline,
        access: ModelAccess,
        prompts: Prompts,
        config: GatewayConfig,
        clock: Callable[[], float],
    ) -> None:
        self._pipeline = pipeline
        self._access = access
        self._prompts = prompts
        self._config = config
        self._clock = clock

    def add_to(self, app: web.Application) -> None:
        app[STYLES][PATH] = AnthropicStyle()
        app.add_routes([web.post(PATH, self.create), web.post(f"{PATH}/count_tokens", self.count_tokens)])

    async def create(self, request: web.Request) -> web.StreamResponse:
        arrived_at_s = self._clock()
        asked = parse(await request.read(), messages_decoder)
        call = answers.with_headers(asked.call(new_id("msg"), arrived_at_s), request)
        headers = {REQUEST_ID_HEADER: request[REQUEST_ID]}
        async with self._pipeline.generate(call) as generation:
            if asked.stream:
                form = MessageEvents(call.call_id, asked.model, request[REQUEST_ID])
                return await answers.stream(request, generation, form, self._config, headers)
            (whole,) = await answers.collect(generation)
            stop = stop_of(generation)
            message = Message(
                call.call_id,
                asked.model,
                blocks_of(answers.parts_of(whole)),
                usage_of(generation),
                stop.stop_reason,
                stop.stop_sequence,
            )
        response = json_response(message)
        response.headers.update(headers)
        return response

    async def count_tokens(self, request: web.Request) -> web.Response:
        asked = parse(await request.read(), count_tokens_decoder)
        model = self._access.model(asked.model, request)
        encoded = await self._prompts.tokenize(model, asked.chat(), add_special_tokens=False)
        response = json_response(TokenCount(len(encoded.token_ids)))
        response.headers[REQUEST_ID_HEADER] = request[REQUEST_ID]
        return response


class MessageEvents:
    """A `Form`."""

    def __init__(self, message_id: str, model: str, request_id: str) -> None:
        self._message_id = message_id
        self._model = model
        self._request_id = request_id
        self._blocks = BlockEvents()

    def opening(self, generation: Generation) -> list[Event]:
        return _encoded([MessageStart(Message(self._message_id, self._model, [], usage_of(generation)))])

    def progress(self, delta: Delta, generation: Generation) -> list[Event]:
        return _encoded(self._blocks.write(answers.parts_of(delta)))

    def closing(self, generation: Generation) -> list[Event]:
        return _encoded([*self._blocks.close(), MessageDelta(stop_of(generation), usage_of(generation)), MessageStop()])

    def failure(self, error: RequestError, generation: Generation) -> list[Event]:
        return [Event(_encoder.encode(error_body(error, self._request_id)), "error")]

    def waiting(self) -> list[Event]:
        return _encoded([Ping()])


def _encoded(events: list[StreamEvent]) -> list[Event]:
    return [Event(_encoder.encode(event), str(event.__struct_config__.tag)) for event in events]
