"""POST /v1/responses."""

import time
from collections.abc import Callable
from typing import Final

import msgspec
from aiohttp import web

from gateway.http import answers
from gateway.http.bodies import json_response, parse
from gateway.http.errors import STYLES
from gateway.http.events import Event
from gateway.http.responses_api import events
from gateway.http.responses_api.errors import STYLE
from gateway.http.responses_api.events import StreamEvent
from gateway.http.responses_api.request import responses_decoder
from gateway.http.responses_api.response import Response, begun, ended, failed, status_of
from gateway.http.responses_api.writer import OutputItems
from gateway.output.choice import Delta
from gateway.output.generation import Generation
from gateway.pipeline import Pipeline
from shared.config import GatewayConfig
from shared.errors import RequestError
from shared.ids import new_id

PATH: Final = "/v1/responses"
_encoder: Final = msgspec.json.Encoder()


class ResponsesRoutes:
    def __init__(self, pipeline: Pipeline, config: GatewayConfig, clock: Callable[[], float]) -> None:
        self._pipeline = pipeline
        self._config = config
        self._clock = clock

    def add_to(self, app: web.Application) -> None:
        app[STYLES][PATH] = STYLE
        app.add_routes([web.post(PATH, self.create)])

    async def create(self, request: web.Request) -> web.StreamResponse:
        arrived_at_s = self._clock()
        asked = parse(await request.read(), responses_decoder)
        call = answers.with_headers(asked.call(new_id("resp"), arrived_at_s), request)
        response = begun(call.call_id, int(time.time()), asked)
        async with self._pipeline.generate(call) as generation:
            if asked.stream:
                return await answers.stream(request, generation, ResponseEvents(response), self._config)
            items = OutputItems()
            (whole,) = await answers.collect(generation)
            items.write(answers.parts_of(whole))
            items.close(status_of(generation))
            return json_response(ended(response, items.done, generation))


class ResponseEvents:
    """A `Form`."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self._items = OutputItems()
        self._number = 0

    def opening(self, generation: Generation) -> list[Event]:
        return self._encoded([events.Created(self._response), events.InProgress(self._response)])

    def progress(self, delta: Delta, generation: Generation) -> list[Event]:
        return self._encoded(self._items.write(answers.parts_of(delta)))

    def closing(self, generation: Generation) -> list[Event]:
        status = status_of(generation)
        closing = self._items.close(status)
        response = ended(self._response, self._items.done, generation)
        last = events.Completed(response) if status == "completed" else events.Incomplete(response)
        return self._encoded([*closing, last])

    def failure(self, error: RequestError, generation: Generation) -> list[Event]:
        closing = self._items.close("incomplete")
        response = failed(self._response, self._items.done, error.message)
        return self._encoded([*closing, events.Failed(response), events.Error(STYLE.detail_of(error))])

    def waiting(self) -> list[Event]:
        return []

    def _encoded(self, written: list[StreamEvent]) -> list[Event]:
        return [self._encode(event) for event in written]

    def _encode(self, event: StreamEvent) -> Event:
        numbered = msgspec.structs.replace(event, sequence_number=self._number)
        self._number += 1
        return Event(_encoder.encode(numbered), str(event.__struct_config__.tag))
