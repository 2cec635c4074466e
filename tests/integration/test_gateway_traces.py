"""What a gateway traces, of both fronts, and what it tells others: with a scripted router and worker behind it."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from shared.client import KottosClient
from shared.config import BusConfig, GatewayConfig
from shared.ids import ModelName
from shared.messages import Cancel, GenerationParams, Submit
from shared.spans import Sampler, Span, traced
from shared.tracing import Tracer
from tests.integration.gateway_harness import BASE, CHAT, Stack, encode, make_config, serving
from tests.unit.gateway.tiny_models import EOS_ID

pytestmark = pytest.mark.asyncio(loop_scope="module")

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{CALLER}-01", f"00-{TRACE}-{CALLER}-00"
SECRET = "canary"


class Spans:
    """What was put out since the last look."""

    def __init__(self) -> None:
        self.tracer = Tracer(self._put, Sampler(ratio=0.0))  # traced is who comes with a trace
        self._spans: list[Span] = []
        self._came = asyncio.Event()

    def _put(self, spans: Iterable[Span]) -> None:
        self._spans += spans
        self._came.set()

    async def next(self) -> dict[str, Span]:
        """Of one request, by name; the last one of a name."""
        async with asyncio.timeout(20):
            await self._came.wait()
        self._came.clear()
        spans, self._spans = self._spans, []
        return {span.name: span for span in spans}

    def none_came(self) -> bool:
        return not self._spans


@pytest.fixture(scope="module")
def spans() -> Spans:
    return Spans()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory, spans: Spans) -> AsyncIterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("gateway")
    config = make_config(folder, GatewayConfig(port=0))
    async with serving(config, (ModelName(CHAT), ModelName(BASE)), spans.tracer) as opened:
        yield opened


async def ask(stack: Stack, body: dict[str, object], traceparent: str) -> aiohttp.ClientResponse:
    async with aiohttp.ClientSession() as http:
        headers = {"traceparent": traceparent} if traceparent else {}
        async with http.post(f"{stack.url}/v1/chat/completions", json=body, headers=headers) as response:
            await response.read()
            return response


def chat(**fields: object) -> dict[str, object]:
    return {"model": CHAT, "messages": [{"role": "user", "content": SECRET}], **fields}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_chat_that_comes_with_a_trace(stack: Stack, spans: Spans, stream: bool) -> None:
    token_ids = stack.says("The quick fox")
    response = await ask(stack, chat(stream=stream, temperature=0.5), SAMPLED)
    parts = await spans.next()
    root = parts["POST /v1/chat/completions"]
    assert set(parts) == {root.name, "render chat", "tokenize", "sequence", "queue", "write"}
    assert (root.context.trace_id, root.parent_span_id) == (TRACE, CALLER)
    assert response.headers["traceresponse"] == root.context.header()
    [submit] = await stack.worker.wait_for(Submit)
    assert traced(submit.traceparent) == parts["sequence"].context
    assert parts["queue"].parent_span_id == parts["sequence"].context.span_id
    others = [span for name, span in parts.items() if name not in (root.name, "queue")]
    assert {span.parent_span_id for span in others} == {root.context.span_id}
    assert root.attributes["gen_ai.usage.output_tokens"] == len(token_ids)
    assert root.attributes["gen_ai.request.temperature"] == 0.5
    assert root.attributes["kottos.request_id"] == response.headers["X-Request-Id"]
    assert not any(SECRET in str(span) or "quick" in str(span) for span in parts.values())


@pytest.mark.parametrize("traceparent", ["", UNSAMPLED, "nonsense"])
async def test_who_is_not_traced_leaves_nothing(stack: Stack, spans: Spans, traceparent: str) -> None:
    stack.says("fox")
    response = await ask(stack, chat(), traceparent)
    assert response.status == 200 and "traceresponse" not in response.headers
    [submit] = await stack.worker.wait_for(Submit)
    assert submit.traceparent == ""
    assert spans.none_came()


async def test_refusals_are_traced(stack: Stack, spans: Spans) -> None:
    assert (await ask(stack, chat(model="none"), SAMPLED)).status == 404
    parts = await spans.next()
    assert [*parts] == ["POST /v1/chat/completions"]
    [root] = parts.values()
    assert (root.attributes["http.response.status_code"], root.error) == (404, "")  # the client's, not ours


async def test_a_worker_that_is_lost_shows_as_two_linked_attempts(stack: Stack, spans: Spans) -> None:
    stack.worker.reset()
    asking = asyncio.ensure_future(ask(stack, chat(), SAMPLED))
    [first] = await stack.worker.wait_for(Submit)
    token_ids = [*encode("The quick fox"), EOS_ID]
    await stack.worker.say(first.request_id, token_ids[0])
    stack.worker.answer = lambda submit: token_ids
    await stack.worker.die()
    [_, again] = await stack.worker.wait_for(Submit, 2)
    assert (await asking).status == 200
    parts = await spans.next()
    resumed = parts["sequence"]
    assert (resumed.attributes["kottos.attempt"], resumed.error) == (1, "")
    assert (traced(first.traceparent),) == resumed.links
    assert traced(again.traceparent) == resumed.context != resumed.links[0]


async def test_who_leaves_is_said_to_have_left(stack: Stack, spans: Spans) -> None:
    stack.worker.reset()
    asking = asyncio.ensure_future(ask(stack, chat(), SAMPLED))
    await stack.worker.wait_for(Submit)
    asking.cancel()
    await stack.worker.wait_for(Cancel)
    parts = await spans.next()
    assert parts["POST /v1/chat/completions"].error == "client_left"
    assert parts["sequence"].attributes["gen_ai.response.finish_reasons"] == ["cancelled"]


async def test_calls_over_the_bus_go_on_with_their_clients_trace(stack: Stack, spans: Spans) -> None:
    stack.says("fox")
    async with KottosClient(BusConfig(), bus=stack.broker.connect("client")) as client:
        params = GenerationParams(max_tokens=20)
        for traceparent in ("", SAMPLED):
            asked = {"text": "The quick", "params": params, "traceparent": traceparent}
            assert [piece async for piece in client.generate(ModelName(BASE), **asked)]  # type: ignore[arg-type]
    parts = await spans.next()
    assert set(parts) == {"generate", "tokenize", "sequence", "queue", "write"}
    assert (parts["generate"].context.trace_id, parts["generate"].parent_span_id) == (TRACE, CALLER)
    assert parts["generate"].attributes["kottos.client"] == client.client_id
    assert parts["sequence"].parent_span_id == parts["generate"].context.span_id
    assert spans.none_came()  # of the call without a trace
