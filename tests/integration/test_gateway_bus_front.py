"""The second front, through the client that internal services use."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway import bus_front
from gateway.bus_front import BusFront
from shared import subjects
from shared.client import KottosClient
from shared.config import BusConfig
from shared.errors import ErrorCode, RequestError
from shared.ids import CallId, ClientId, ModelName, OwnerId
from shared.messages import Cancel, ChatMessage, Ended, Generate, GenerationParams, Piece, RequestFinished, Submit
from shared.slo import Slo
from tests.integration.gateway_harness import BASE, CHAT, Stack, encode, open_stack
from tests.recorder import Recorder
from tests.unit.gateway.tiny_models import BOS_ID, EOS_ID

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with open_stack(tmp_path_factory.mktemp("gateway"), max_requests=4) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def client(stack: Stack) -> AsyncIterator[KottosClient]:
    async with KottosClient(BusConfig(), bus=stack.broker.connect("client")) as opened:
        yield opened


async def test_text_in_pieces_out(stack: Stack, client: KottosClient) -> None:
    token_ids = stack.says("Grüße 🎉 done")
    pieces = [piece async for piece in client.generate(BASE, text="x", params=GenerationParams(max_tokens=50))]
    assert "".join(piece.text for piece in pieces) == "Grüße 🎉 done"
    assert [token_id for piece in pieces for token_id in piece.token_ids] == token_ids
    assert pieces[-1].finish_reason == "stop"
    assert (pieces[-1].num_prompt_tokens, pieces[-1].num_output_tokens) == (len(encode("x")) + 1, len(token_ids))
    assert len(pieces) > 4


async def test_a_chat_is_rendered(stack: Stack, client: KottosClient) -> None:
    stack.says("hi")
    chat = [ChatMessage("user", "hello")]
    assert "".join([piece.text async for piece in client.generate(CHAT, chat=chat)]) == "hi"
    [submit] = await stack.worker.wait_for(Submit)
    assert list(submit.prompt) == [BOS_ID, *encode("user: hello\nassistant:")]


async def test_a_call_names_its_service_level(stack: Stack, client: KottosClient) -> None:
    stack.says("hi")
    params = GenerationParams(ttft_s=0.5, priority=-2)
    assert [piece async for piece in client.generate(CHAT, text="x", params=params)]
    [submit] = await stack.worker.wait_for(Submit)
    assert (submit.slo, submit.priority) == (Slo(0.5, 0.1), -2)


async def test_leaving_the_loop_cancels(stack: Stack, client: KottosClient) -> None:
    stack.worker.reset()
    calling = client.generate(BASE, token_ids=[5, 6, 7])
    first = asyncio.ensure_future(anext(calling))
    [submit] = await stack.worker.wait_for(Submit)
    await stack.worker.say(submit.request_id, *encode("fox"))
    assert (await first).text == "fox"
    await calling.aclose()
    [cancel] = await stack.worker.wait_for(Cancel)
    assert cancel.request_id == submit.request_id


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"model": "none", "text": "x"}, ErrorCode.MODEL_NOT_FOUND),
        ({"model": BASE, "text": ""}, ErrorCode.INVALID_REQUEST),
        ({"model": BASE}, ErrorCode.INVALID_REQUEST),
        ({"model": BASE, "text": "x", "token_ids": [5]}, ErrorCode.INVALID_REQUEST),
        ({"model": BASE, "chat": [ChatMessage("user", "x")]}, ErrorCode.NO_CHAT_TEMPLATE),
        ({"model": BASE, "token_ids": [5] * 500}, ErrorCode.CONTEXT_LENGTH_EXCEEDED),
        ({"model": BASE, "text": "x", "params": GenerationParams(temperature=float("nan"))}, ErrorCode.INVALID_REQUEST),
        ({"model": BASE, "text": "x", "params": GenerationParams(tbt_s=0.0)}, ErrorCode.INVALID_REQUEST),
    ],
)
async def test_refusals_say_why(client: KottosClient, asked: dict[str, object], code: ErrorCode) -> None:
    with pytest.raises(RequestError) as caught:
        async for _ in client.generate(**asked):  # type: ignore[arg-type]
            pass
    assert caught.value.code is code


async def test_an_error_of_the_worker_ends_the_call(stack: Stack, client: KottosClient) -> None:
    stack.worker.reset()
    calling = client.generate(BASE, text="x")
    first = asyncio.ensure_future(anext(calling))
    [submit] = await stack.worker.wait_for(Submit)
    await stack.worker.say(submit.request_id, ended=Ended("error", ErrorCode.INTERNAL, "the step failed"))
    with pytest.raises(RequestError, match="the step failed"):
        await first


async def test_both_fronts_share_the_limit_and_tell_of_what_finished(stack: Stack, client: KottosClient) -> None:
    events = Recorder()
    subscription = await stack.worker.bus.subscribe(subjects.EVENT_REQUEST_FINISHED, events)
    stack.worker.reset()
    calls = [client.generate(BASE, text="x") for _ in range(4)]
    firsts = [asyncio.ensure_future(anext(call)) for call in calls]
    submits = await stack.worker.wait_for(Submit, 4)
    with pytest.raises(RequestError) as caught:
        await anext(client.generate(BASE, text="x"))
    assert caught.value.code is ErrorCode.OVERLOADED
    for submit in submits:
        await stack.worker.say(submit.request_id, *encode("fox"), ended=Ended("stop"))
    await asyncio.gather(*firsts)
    finished = await events.wait_for(4)
    await subscription.unsubscribe()
    assert {event.request_id for event in finished if isinstance(event, RequestFinished)} == {
        submit.request_id for submit in submits
    }
    one = finished[0]
    assert isinstance(one, RequestFinished)
    assert (one.model, one.finish_reason, one.num_output_tokens) == (ModelName(BASE), "stop", len(encode("fox")))
    assert one.num_due_tokens == one.num_output_tokens
    assert one.ttft_s is not None
    assert 0 < one.ttft_s <= one.total_s


async def test_calls_of_a_silent_client_are_cancelled(stack: Stack) -> None:
    now_s = 0.0
    bus = stack.broker.connect("another gateway")
    await bus.start()
    pipeline = stack.gateway.pipeline
    front = BusFront(OwnerId("gateway-x"), bus, pipeline, max_calls=4, clock=lambda: now_s)
    stack.worker.reset()
    async with front.running():
        generate = Generate(CallId("call"), ClientId("silent"), ModelName(BASE), GenerationParams(), text="x")
        assert front.on_generate(generate) == Piece(CallId("call"), 0, OwnerId("gateway-x"))
        [submit] = await stack.worker.wait_for(Submit)
        front.cancel_deserted(5.0)
        assert front.num_calls == 1
        front.cancel_deserted(5.1)
        [cancel] = await stack.worker.wait_for(Cancel)
        assert cancel.request_id == submit.request_id
    assert front.num_calls == 0
    await bus.close()


async def test_choices_and_logprobs(stack: Stack, client: KottosClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces of two entries at most."""
    monkeypatch.setattr(bus_front, "_PIECE_LOGPROBS", 2)
    stack.worker.reset(lambda submit: [*encode(("quick", "lazy dog")[submit.sampling.choice_index]), EOS_ID])
    params = GenerationParams(n=2, logprobs=1, prompt_logprobs=0, max_tokens=20)
    pieces = [piece async for piece in client.generate(BASE, text="The quick fox", params=params)]
    for choice, text in enumerate(("quick", "lazy dog")):
        mine = [piece for piece in pieces if piece.choice == choice]
        assert "".join(piece.text for piece in mine) == text
        assert [piece.finish_reason for piece in mine if piece.finish_reason] == ["stop"]
        scored = [entry.token_id for piece in mine for entry in piece.logprobs]
        assert scored == [token_id for piece in mine for token_id in piece.token_ids] == [*encode(text), EOS_ID]
        assert all(len(entry.top_ids) == 1 for piece in mine for entry in piece.logprobs)
        of_prompt = [entry.token_id for piece in mine for entry in piece.prompt_logprobs]
        assert of_prompt == encode("The quick fox")
        assert all(len(piece.prompt_logprobs) <= 2 for piece in mine)
    assert pieces[-1].num_prompt_tokens == len(encode("The quick fox")) + 1
    assert pieces[-1].num_output_tokens == len(encode("quick")) + len(encode("lazy dog")) + 2
