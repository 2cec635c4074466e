"""The client against a scripted gateway, on the in-memory bus and on a real server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import pytest
from msgspec.structs import replace

from cli.broker import EmbeddedBroker
from shared import client_buffers, subjects
from shared.bus import Bus
from shared.client import KottosClient
from shared.client_buffers import Event, GatewayLost, PiecesLost, ReaderTooSlow
from shared.config import BusConfig
from shared.errors import BusUnavailable, ErrorCode, RequestError
from shared.ids import CallId, Incarnation, ModelName, WorkerId
from shared.messages import (
    CallError,
    CancelCall,
    ChatMessage,
    ClientBeat,
    Generate,
    GenerationParams,
    ModelSwitched,
    Piece,
    WorkerCame,
    WorkerWent,
)
from tests.bus_twins import MemoryTwin, NatsTwin, Twin
from tests.fake_gateway import FakeGateway
from tests.recorder import Recorder

CAME = WorkerCame(WorkerId("worker-1"), Incarnation("life-1"))
WENT = WorkerWent(WorkerId("worker-1"), Incarnation("life-1"), "no beat for 10 s")
SWITCHED = ModelSwitched(WorkerId("worker-1"), ModelName("tiny"), None, "copied", 1000, 0.1)


@pytest.fixture(params=["memory", "nats"])
async def twin(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Twin]:
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            yield MemoryTwin(stack)
        else:
            yield NatsTwin(stack, await stack.enter_async_context(EmbeddedBroker(tmp_path)))


@pytest.fixture
async def gateway(twin: Twin) -> FakeGateway:
    gateway = FakeGateway(await twin.connect("gateway"))
    await gateway.start()
    return gateway


def client_on(bus: Bus, **time_limits: float) -> KottosClient:
    return KottosClient(BusConfig(), bus=bus, **time_limits)


async def read(
    client: KottosClient,
    text: str = "hello",
    params: GenerationParams = GenerationParams(),  # noqa: B008  # no state
) -> list[Piece]:
    return [piece async for piece in client.generate("tiny", text=text, params=params)]


async def test_pieces_arrive_in_order_until_the_last(twin: Twin, gateway: FakeGateway) -> None:
    async with client_on(twin.new("client")) as client:
        reading = asyncio.create_task(read(client))
        call = await gateway.next_call()
        assert call == Generate(call.call_id, client.client_id, ModelName("tiny"), GenerationParams(), text="hello")
        keep_alive = gateway.piece(call, 2)
        sent = [gateway.piece(call, 1, "Hel", 7, 8), keep_alive, gateway.piece(call, 3, "lo", 9)]
        sent.append(gateway.last_piece(call, 4))
        for piece in sent:
            await gateway.send(call, piece)
        assert await reading == [piece for piece in sent if piece is not keep_alive]
    assert gateway.cancels.messages == []


async def test_token_ids_chat_and_params_travel(twin: Twin, gateway: FakeGateway) -> None:
    async with client_on(twin.new("client")) as client:
        params = GenerationParams(max_tokens=5, stop=["\n"], seed=1)
        message = ChatMessage("user", "hi")
        by_ids = asyncio.create_task(anext(client.generate("tiny", token_ids=[1, 2], params=params)))
        call = await gateway.next_call()
        by_chat = asyncio.create_task(anext(client.generate("tiny", chat=[message])))
        other_call = await gateway.next_call(2)
        for each in (call, other_call):
            await gateway.send(each, gateway.last_piece(each, 1))
        await asyncio.gather(by_ids, by_chat)
        assert (call.token_ids, call.text, call.chat, call.params) == ((1, 2), None, None, params)
        assert (other_call.token_ids, other_call.text, other_call.chat) == (None, None, (message,))


async def test_a_call_of_several_choices_ends_with_the_last_of_them(twin: Twin, gateway: FakeGateway) -> None:
    async with client_on(twin.new("client")) as client:
        reading = asyncio.create_task(read(client, params=GenerationParams(n=2)))
        call = await gateway.next_call()
        sent = [replace(gateway.piece(call, 1, "one", 7), choice=1), replace(gateway.last_piece(call, 2), choice=1)]
        sent += [gateway.piece(call, 3, "two", 8), gateway.last_piece(call, 4)]
        for piece in sent:
            await gateway.send(call, piece)
        assert await reading == sent
    assert gateway.cancels.messages == []


async def test_calls_run_side_by_side(twin: Twin, gateway: FakeGateway) -> None:
    async with client_on(twin.new("client")) as client:
        readings = [asyncio.create_task(read(client, text=str(number))) for number in range(20)]
        await gateway.calls.wait_for(20)
        calls = [call for call in gateway.calls.messages if isinstance(call, Generate)]
        for number in (1, 2, 3):
            for call in calls:
                await gateway.send(call, gateway.piece(call, number, call.text or "", number))
        for call in calls:
            await gateway.send(call, gateway.last_piece(call, 4))
        for number, pieces in enumerate(await asyncio.gather(*readings)):
            assert "".join(piece.text for piece in pieces) == 3 * str(number)


async def test_leaving_the_loop_cancels_the_call(twin: Twin, gateway: FakeGateway) -> None:
    async with client_on(twin.new("client")) as client:

        async def leave() -> None:
            async for _ in client.generate("tiny", text="hello"):
                break

        leaving = asyncio.create_task(leave())
        call = await gateway.next_call()
        await gateway.send(call, gateway.piece(call, 1, "x", 1))
        await leaving
        assert await gateway.cancels.wait_for(1) == [CancelCall(call.call_id, client.client_id)]


async def test_a_cancelled_reader_cancels_its_call_before_the_first_piece(twin: Twin, gateway: FakeGateway) -> None:
    async with client_on(twin.new("client")) as client:
        reading = asyncio.create_task(read(client))
        call = await gateway.next_call()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        # If it left before it heard who serves it, the next piece tells it.
        await gateway.send(call, gateway.piece(call, 1, "x", 1))
        assert (await gateway.cancels.wait_for(1))[0] == CancelCall(call.call_id, client.client_id)


async def test_a_piece_for_nobody_is_answered_with_a_cancel(twin: Twin, gateway: FakeGateway) -> None:
    async with client_on(twin.new("client")) as client:
        gone = Generate(CallId("call-gone"), client.client_id, ModelName("tiny"), GenerationParams(), text="hello")
        await gateway.send(gone, gateway.last_piece(gone, 2))  # over anyway
        await gateway.send(gone, gateway.piece(gone, 1, "x", 1))
        assert await gateway.cancels.wait_for(1) == [CancelCall(gone.call_id, client.client_id)]


async def test_closing_the_client_cancels_what_runs(twin: Twin, gateway: FakeGateway) -> None:
    async with client_on(twin.new("client")) as client:
        pieces = client.generate("tiny", text="hello")
        first = asyncio.create_task(anext(pieces))
        call = await gateway.next_call()
        await gateway.send(call, gateway.piece(call, 1, "x", 1))
        await first
    assert await gateway.cancels.wait_for(1) == [CancelCall(call.call_id, client.client_id)]
    with pytest.raises(BusUnavailable, match="closed"):
        await anext(pieces)


async def test_it_beats_while_calls_run(twin: Twin, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.client.BEAT_S", 0.02)
    async with client_on(twin.new("client")) as client:
        reading = asyncio.create_task(read(client))
        call = await gateway.next_call()
        beats = await gateway.beats.wait_for(3)
        assert set(beats) == {ClientBeat(client.client_id)}
        await gateway.send(call, gateway.last_piece(call, 1))
        await reading


async def test_a_gap_is_an_error_after_the_pieces_before_it(twin: Twin, gateway: FakeGateway) -> None:
    async with client_on(twin.new("client")) as client:
        pieces = client.generate("tiny", text="hello")
        first = asyncio.create_task(anext(pieces))
        call = await gateway.next_call()
        for number in (1, 2, 5, 6):
            await gateway.send(call, gateway.piece(call, number, str(number), number))
        assert (await first).text == "1"
        assert (await anext(pieces)).text == "2"
        with pytest.raises(PiecesLost, match="3 to 4") as error:
            await anext(pieces)
        assert (error.value.expected, error.value.got) == (3, 5)
        assert await gateway.cancels.wait_for(1) == [CancelCall(call.call_id, client.client_id)]


async def test_a_refusal_carries_its_code(twin: Twin) -> None:
    refusal = CallError(ErrorCode.MODEL_NOT_FOUND, "there is no model 'tiny'", retry_after_s=2.0)
    gateway = FakeGateway(await twin.connect("gateway"), refuse=refusal)
    await gateway.start()
    async with client_on(twin.new("client")) as client:
        with pytest.raises(RequestError, match="no model") as error:
            await read(client)
    assert (error.value.code, error.value.retry_after_s) == (ErrorCode.MODEL_NOT_FOUND, 2.0)
    assert gateway.cancels.messages == []


async def test_an_error_in_the_middle_ends_the_call(twin: Twin, gateway: FakeGateway) -> None:
    async with client_on(twin.new("client")) as client:
        pieces = client.generate("tiny", text="hello")
        first = asyncio.create_task(anext(pieces))
        call = await gateway.next_call()
        await gateway.send(call, gateway.piece(call, 1, "x", 1))
        broken = Piece(call.call_id, 2, gateway.owner, error=CallError(ErrorCode.INTERNAL, "the worker is gone"))
        await gateway.send(call, broken)
        await first
        with pytest.raises(RequestError, match="the worker is gone"):
            await anext(pieces)
    assert gateway.cancels.messages == []


async def test_without_a_gateway_it_fails_at_once(twin: Twin) -> None:
    async with client_on(twin.new("client"), accept_timeout_s=60) as client, asyncio.timeout(5):
        with pytest.raises(RequestError, match="no gateway") as error:
            await read(client)
    assert error.value.code == ErrorCode.UNAVAILABLE


async def test_a_gateway_that_beats_may_take_its_time(
    twin: Twin, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.client.BEAT_S", 0.02)
    async with client_on(twin.new("client")) as client:
        reading = asyncio.create_task(read(client))
        call = await gateway.next_call()
        for num_beats in range(1, 20):  # each answers one of the client's
            await gateway.beats.wait_for(num_beats)
            await gateway.beat()
        await gateway.send(call, gateway.last_piece(call, 1))
        assert len(await reading) == 1


async def test_a_silent_gateway_is_given_up(twin: Twin, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.client.BEAT_S", 0.02)
    async with client_on(twin.new("client")) as client:
        with pytest.raises(GatewayLost, match="gateway-1"):
            await read(client)
        call = await gateway.next_call()
        assert await gateway.cancels.wait_for(1) == [CancelCall(call.call_id, client.client_id)]


async def test_a_reader_that_lags_loses_its_call(
    twin: Twin, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_buffers, "MAX_PIECES", 10)
    async with client_on(twin.new("client")) as client, aclosing(client.generate("tiny", text="hello")) as pieces:
        first = asyncio.create_task(anext(pieces))
        call = await gateway.next_call()
        await gateway.send(call, gateway.piece(call, 1, "x", 1))
        await first
        other = asyncio.create_task(read(client))
        other_call = await gateway.next_call(2)
        for number in range(2, 30):
            await gateway.send(call, gateway.piece(call, number, "x", number))
        await gateway.send(other_call, gateway.last_piece(other_call, 1))
        await other  # so all pieces before have arrived, unread
        for _ in range(10):
            await anext(pieces)
        with pytest.raises(ReaderTooSlow):
            await anext(pieces)
        assert await gateway.cancels.wait_for(1) == [CancelCall(call.call_id, client.client_id)]


async def test_a_lost_connection_ends_calls_and_the_next_call_works(twin: Twin, gateway: FakeGateway) -> None:
    link = await twin.link("client", start=False)
    async with client_on(link.bus) as client:
        pieces = client.generate("tiny", text="hello")
        first = asyncio.create_task(anext(pieces))
        call = await gateway.next_call()
        await gateway.send(call, gateway.piece(call, 1, "x", 1))
        await first
        await link.cut()
        with pytest.raises(BusUnavailable, match="lost"):
            await anext(pieces)
        await link.restore()
        assert await gateway.cancels.wait_for(1) == [CancelCall(call.call_id, client.client_id)]
        again = asyncio.create_task(read(client))
        next_call = await gateway.next_call(2)
        await gateway.send(next_call, gateway.last_piece(next_call, 1))
        assert len(await again) == 1


async def test_events_of_all_kinds_or_of_one(twin: Twin) -> None:
    router, worker = await twin.connect("router"), await twin.connect("worker")
    bus = twin.new("client")
    async with client_on(bus) as client:
        everything, one_kind = client.events(), client.events(subjects.EVENT_WORKER_WENT)
        first, first_of_kind = asyncio.create_task(anext(everything)), asyncio.create_task(anext(one_kind))
        await asyncio.sleep(0)  # both have sent their subscription,
        await bus.subscribe(subjects.client(client.client_id), Recorder())  # and the server has read it
        await router.publish(subjects.EVENT_WORKER_CAME, CAME)
        assert await first == CAME
        await worker.publish(subjects.EVENT_MODEL_SWITCHED, SWITCHED)
        assert await anext(everything) == SWITCHED
        await router.publish(subjects.EVENT_WORKER_WENT, WENT)
        assert await anext(everything) == WENT
        assert await first_of_kind == WENT
        rest = asyncio.create_task(anext(everything, None))
    assert await rest is None


async def test_a_slow_reader_of_events_loses_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_buffers, "MAX_EVENTS", 3)
    buffer = client_buffers.EventBuffer()
    events: list[Event] = [WorkerWent(WorkerId("worker-1"), Incarnation(str(number)), "") for number in range(5)]
    for event in events:
        buffer.push(event)
    buffer.end()
    assert [await buffer.next_event() for _ in range(4)] == [*events[2:], None]
