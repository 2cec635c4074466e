"""POST /v1/chat/completions and /v1/completions: one call, answered whole or as a stream."""

import time
from collections.abc import Callable

from aiohttp import web

from gateway.choice import Delta, merged
from gateway.http import answers, errors
from gateway.http.bodies import parse
from gateway.http.errors import REQUEST_ID
from gateway.http.events import DONE, EventStream
from gateway.http.openai.chat import ChatRequest, chat_decoder
from gateway.http.openai.chat_response import ChatFormat
from gateway.http.openai.completion_response import TextFormat
from gateway.http.openai.completions import CompletionRequest, completion_decoder
from gateway.http.openai.response import Format
from gateway.pipeline import Call, Generation, Pipeline
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
                return await self._stream(request, generation, form, asked.include_usage)
            return web.Response(
                body=form.whole(generation, await _collect(generation)), content_type="application/json"
            )

    async def _stream(
        self, request: web.Request, generation: Generation, form: Format, include_usage: bool
    ) -> web.StreamResponse:
        stream = EventStream(request, self._config.write_timeout_s)
        payloads: list[bytes] = form.opening(generation)
        try:
            while not generation.is_done:
                deltas = await generation.next(self._config.keepalive_s)
                if not deltas:
                    await stream.keep_alive(generation.status())
                    continue
                payloads += [chunk for delta in deltas if form.shows(delta) for chunk in form.chunks(delta, generation)]
                if payloads:
                    await stream.send(payloads)
                    generation.written(deltas)
                    payloads = []
        except RequestError as error:
            if not stream.has_begun:
                raise
            payloads.append(errors.body_of(error))
        except ConnectionError:
            raise  # the client left
        except Exception as error:
            if not stream.has_begun:
                raise
            errors.log_failure(request[REQUEST_ID], error)
            payloads.append(errors.body_of(errors.INTERNAL))
        else:
            if include_usage:
                payloads.append(form.usage(generation))
        await stream.send([*payloads, DONE])
        return stream.response


async def _collect(generation: Generation) -> list[Delta]:
    """All of each choice, in one delta. Its tokens count as written when they are here: whether an answer is streamed
    says nothing about how fast it was made."""
    of_choices: list[list[Delta]] = [[] for _ in generation.choices]
    while not generation.is_done:
        deltas = await generation.next()
        generation.written(deltas)
        for delta in deltas:
            of_choices[delta.index].append(delta)
    return [merged(deltas) for deltas in of_choices]
