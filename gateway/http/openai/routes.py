"""POST /v1/chat/completions and /v1/completions: one call, answered whole or as a stream."""

import time
from collections.abc import Callable

from aiohttp import web

from gateway.http import answers
from gateway.http.bodies import parse
from gateway.http.events import DONE, Event, last_words
from gateway.http.openai.chat import ChatRequest, chat_decoder
from gateway.http.openai.chat_response import ChatFormat
from gateway.http.openai.completion_response import TextFormat
from gateway.http.openai.completions import CompletionRequest, completion_decoder
from gateway.http.openai.response import Format
from gateway.output.choice import Delta
from gateway.output.generation import Generation
from gateway.pipeline import Pipeline
from gateway.request.call import Call
from shared.config import GatewayConfig
from shared.errors import RequestError
from shared.ids import new_id


class GenerateRoutes:
    def __init__(self, pipeline: Pipeline, config: GatewayConfig, clock: Callable[[], float]) -> None:
        self._pipeline = pipeline
        self._config = config
        self._clock = clock

    async def chat(self, request: web.Request) -> web.StreamResponse:
        arrived_at_s = self._clock()
        asked = parse(await request.read(), chat_decoder)
        call = answers.with_headers(asked.call(new_id("chatcmpl"), arrived_at_s), request)
        return await self._answer(request, asked, call, ChatFormat(call.call_id, int(time.time()), asked))

    async def completion(self, request: web.Request) -> web.StreamResponse:
        arrived_at_s = self._clock()
        asked = parse(await request.read(), completion_decoder)
        call = answers.with_headers(asked.call(new_id("cmpl"), arrived_at_s), request)
        return await self._answer(request, asked, call, TextFormat(call.call_id, int(time.time()), asked))

    async def _answer(
        self, request: web.Request, asked: ChatRequest | CompletionRequest, call: Call, form: Format
    ) -> web.StreamResponse:
        """Leaving this block, in whatever way, ends the call."""
        async with self._pipeline.generate(call) as generation:
            if asked.stream:
                chunks = ChunkEvents(form, asked.include_usage)
                return await answers.stream(request, generation, chunks, self._config)
            whole = form.whole(generation, await answers.collect(generation))
            return web.Response(body=whole, content_type="application/json")


class ChunkEvents:
    """A `Form` (gateway/http/answers.py): what comes before the first delta goes out with it, so that until then only
    comments do."""

    def __init__(self, form: Format, include_usage: bool) -> None:
        self._form = form
        self._include_usage = include_usage
        self._is_opened = False

    def opening(self, generation: Generation) -> list[Event]:
        return []

    def progress(self, delta: Delta, generation: Generation) -> list[Event]:
        chunks = self._form.chunks(delta, generation) if self._form.shows(delta) else []
        return [*self._opened(generation), *map(Event, chunks)]

    def closing(self, generation: Generation) -> list[Event]:
        usage = [Event(self._form.usage(generation))] if self._include_usage else []
        return [*usage, Event(DONE)]

    def failure(self, error: RequestError, generation: Generation) -> list[Event]:
        return [*self._opened(generation), *last_words(error)]

    def waiting(self) -> list[Event]:
        return []

    def _opened(self, generation: Generation) -> list[Event]:
        if self._is_opened:
            return []
        self._is_opened = True
        return list(map(Event, self._form.opening(generation)))
