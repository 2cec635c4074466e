"""What a Bus promises, on both twins: NatsBus with a real server, and MemoryBus."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from cli.broker import EmbeddedBroker
from shared import subjects
from shared.config import MAX_MODEL_NAME_CHARS
from shared.errors import BusUnavailable, ErrorCode, MessageTooLarge, NoResponders, RequestTimeout, SubjectTooLong
from shared.ids import CallId, ClientId, Incarnation, ModelName, OwnerId, RequestId, WorkerId
from shared.messages import AnyMessage, Cancel, EndAck, Generate, GenerationParams, Message, Refused, WorkerCame
from tests.bus_twins import MemoryTwin, NatsTwin, Twin, state_changes_to
from tests.recorder import Recorder

WORKER = subjects.worker(WorkerId("worker-1"))
OTHER_WORKER = subjects.worker(WorkerId("worker-2"))
REQUEST = subjects.request(ModelName("tiny 1.5B"))
REFUSED = Refused(RequestId("request-1"), 0, ErrorCode.OVERLOADED, "later", retry_after_s=1.0)
CANCEL = Cancel(RequestId("request-1"), 0, OwnerId("gateway-1"), ModelName("tiny"))


@pytest.fixture(params=["memory", "nats"])
async def twin(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Twin]:
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            yield MemoryTwin(stack)
        else:
            yield NatsTwin(stack, await stack.enter_async_context(EmbeddedBroker(tmp_path)))


def note(number: int, num_bytes: int = 0) -> EndAck:
    """A message that can be told from others, of about this size."""
    return EndAck(OwnerId(f"owner-{number}"), (RequestId("x" * num_bytes),))


def call(number: int) -> Generate:
    return Generate(CallId(f"call-{number}"), ClientId("client-1"), ModelName("tiny"), GenerationParams(), text="hello")


async def test_messages_arrive_equal_and_in_order_but_are_not_shared(twin: Twin) -> None:
    router, worker = await twin.connect("router"), await twin.connect("worker")
    inbox, other_inbox = Recorder(), Recorder()
    await worker.subscribe(WORKER, inbox)
    await worker.subscribe(OTHER_WORKER, other_inbox)
    sent = [note(number) for number in range(2000)]
    for message in sent:
        await router.publish(WORKER, message)
    assert await inbox.wait_for(2000) == sent
    assert inbox.messages[0] is not sent[0]
    assert other_inbox.messages == []


async def test_every_subscription_gets_a_copy_and_wildcards_match(twin: Twin) -> None:
    router, client, listener = await twin.connect("router"), await twin.connect("client"), await twin.connect("worker")
    everything, one_kind, any_worker = Recorder(), Recorder(), Recorder()
    await client.subscribe(subjects.EVENTS, everything)
    await client.subscribe(subjects.EVENT_WORKER_WENT, one_kind)
    await listener.subscribe("kottos.worker.*", any_worker)
    came = WorkerCame(WorkerId("worker-1"), Incarnation("life-1"))
    await router.publish(subjects.EVENT_WORKER_CAME, came)
    await router.publish(subjects.EVENT_WORKER_WENT, REFUSED)
    await router.publish(OTHER_WORKER, note(1))
    assert await everything.wait_for(2) == [came, REFUSED]
    assert await one_kind.wait_for(1) == [REFUSED]
    assert await any_worker.wait_for(1) == [note(1)]


async def test_each_message_goes_to_one_member_of_a_queue_group(twin: Twin) -> None:
    client = await twin.connect("client")
    everything, by_members = Recorder(), Recorder()
    num_by_member = [0, 0]

    async def join(member: int) -> None:
        def take(message: AnyMessage) -> None:
            num_by_member[member] += 1
            by_members(message)

        await (await twin.connect("gateway")).subscribe(subjects.CALL, take, queue=subjects.CALL_GROUP)

    await join(0)
    await join(1)
    await (await twin.connect("gateway")).subscribe(subjects.CALL, everything)
    sent = [call(number) for number in range(200)]
    for message in sent:
        await client.publish(subjects.CALL, message)
    assert await everything.wait_for(200) == sent
    assert sorted(await by_members.wait_for(200), key=str) == sorted(sent, key=str)
    assert min(num_by_member) > 0


async def test_what_the_handler_returns_is_the_reply(twin: Twin) -> None:
    gateway, router = await twin.connect("gateway"), await twin.connect("router")
    asked = Recorder(reply=REFUSED)
    await router.subscribe(subjects.ALL_REQUESTS, asked)
    replies = await asyncio.gather(*(gateway.request(REQUEST, note(number), timeout_s=10) for number in range(50)))
    assert replies == [REFUSED] * 50
    assert sorted(asked.messages, key=str) == sorted([note(number) for number in range(50)], key=str)


async def test_a_returned_message_is_dropped_if_nobody_asked(twin: Twin) -> None:
    gateway, router = await twin.connect("gateway"), await twin.connect("router")
    asked = Recorder(reply=REFUSED)
    await router.subscribe(subjects.ALL_REQUESTS, asked)
    await gateway.publish(REQUEST, CANCEL)
    assert await asked.wait_for(1) == [CANCEL]
    assert await gateway.request(REQUEST, CANCEL, timeout_s=10) == REFUSED
    assert router.stats.num_failed_replies == 0


async def test_a_request_to_nobody_fails_at_once(twin: Twin) -> None:
    gateway = await twin.connect("gateway")
    async with asyncio.timeout(5):
        with pytest.raises(NoResponders, match=REQUEST.replace(".", r"\.")):
            await gateway.request(REQUEST, CANCEL, timeout_s=60)


async def test_a_request_without_a_reply_times_out(twin: Twin) -> None:
    gateway, router = await twin.connect("gateway"), await twin.connect("router")
    await router.subscribe(subjects.ALL_REQUESTS, Recorder(reply=None))
    with pytest.raises(RequestTimeout):
        await gateway.request(REQUEST, CANCEL, timeout_s=0.05)


async def test_a_message_beyond_the_limit_is_refused_and_the_connection_lives(twin: Twin) -> None:
    gateway, router = await twin.connect("gateway"), await twin.connect("router")
    asked = Recorder(reply=REFUSED)
    await router.subscribe(subjects.ALL_REQUESTS, asked)
    largest = note(1, twin.limit_bytes - 100)
    for refused in (note(2, twin.limit_bytes), note(3, 3 * twin.limit_bytes)):
        with pytest.raises(MessageTooLarge) as error:
            await gateway.publish(REQUEST, refused)
        assert error.value.limit_bytes == twin.limit_bytes
        with pytest.raises(MessageTooLarge):
            await gateway.request(REQUEST, refused, timeout_s=10)
    await gateway.publish(REQUEST, largest)
    assert await asked.wait_for(1) == [largest]
    assert gateway.stats.num_reconnects == 0


async def test_a_subject_that_the_server_would_not_take_is_refused(twin: Twin) -> None:
    """It has an id that somebody else made up; the server would end the connection."""
    gateway, router = await twin.connect("gateway"), await twin.connect("router")
    asked = Recorder()
    await router.subscribe(subjects.ALL_REQUESTS, asked)
    longest = subjects.request(ModelName("😀" * MAX_MODEL_NAME_CHARS))
    with pytest.raises(SubjectTooLong):
        await gateway.publish(longest * 2, CANCEL)
    with pytest.raises(SubjectTooLong):
        await gateway.request(longest * 2, CANCEL, timeout_s=10)
    await gateway.publish(longest, CANCEL)
    assert await asked.wait_for(1) == [CANCEL]
    assert gateway.stats.num_reconnects == 0


async def test_a_reply_beyond_the_limit_is_counted_and_the_asker_times_out(twin: Twin) -> None:
    gateway, router = await twin.connect("gateway"), await twin.connect("router")
    await router.subscribe(subjects.ALL_REQUESTS, Recorder(reply=note(1, twin.limit_bytes)))
    with pytest.raises(RequestTimeout):
        await gateway.request(REQUEST, CANCEL, timeout_s=0.2)
    assert router.stats.num_failed_replies == 1


async def test_a_failing_handler_keeps_its_subscription(twin: Twin, caplog: pytest.LogCaptureFixture) -> None:
    router, worker = await twin.connect("router"), await twin.connect("worker")
    inbox = Recorder()
    prompt = " ".join(["a", "private", "prompt"])

    def fail_first(message: AnyMessage) -> Message | None:
        inbox(message)
        if message == note(1):
            raise ValueError(prompt)
        return None

    await worker.subscribe(WORKER, fail_first)
    with caplog.at_level(logging.DEBUG):
        await router.publish(WORKER, note(1))
        await router.publish(WORKER, note(2))
        assert await inbox.wait_for(2) == [note(1), note(2)]
    assert worker.stats.num_handler_errors == 1
    assert "ValueError" in caplog.text and "fail_first" in caplog.text
    assert prompt not in caplog.text


async def test_what_is_not_a_message_is_dropped_and_counted(twin: Twin, caplog: pytest.LogCaptureFixture) -> None:
    router, worker = await twin.connect("router"), await twin.connect("worker")
    inbox = Recorder()
    await worker.subscribe(WORKER, inbox)
    with caplog.at_level(logging.DEBUG):
        for payload in (b"a private prompt", b"", b"\x92\xa9OwnerBeat\xa1\xff"):
            await twin.inject("router", WORKER, payload)
        await router.publish(WORKER, note(1))
        assert await inbox.wait_for(1) == [note(1)]
    assert worker.stats.num_undecodable == 3
    assert caplog.text.count("not a message") == 1
    assert "a private prompt" not in caplog.text


async def test_nothing_arrives_after_unsubscribing(twin: Twin) -> None:
    router, worker = await twin.connect("router"), await twin.connect("worker")
    gone, still_there = Recorder(), Recorder()
    subscription = await worker.subscribe(WORKER, gone)
    await worker.subscribe(WORKER, still_there)
    await subscription.unsubscribe()
    await router.publish(WORKER, note(1))
    assert await still_there.wait_for(1) == [note(1)]
    assert gone.messages == []


async def test_the_newest_messages_are_lost_and_counted_when_a_handler_lags(
    twin: Twin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.bus.MAX_PENDING_MESSAGES", 100)
    monkeypatch.setattr("shared.memory_bus.MAX_PENDING_MESSAGES", 100)
    router, worker = await twin.connect("router"), await twin.connect("worker")
    inbox, bystander = Recorder(), Recorder()
    await worker.subscribe(WORKER, inbox)
    await worker.subscribe(OTHER_WORKER, bystander)
    for number in range(300):
        await router.publish(WORKER, note(number))
    await router.publish(OTHER_WORKER, note(300))
    await bystander.wait_for(1)
    await inbox.wait_for(100)
    assert inbox.messages[:100] == [note(number) for number in range(100)]
    assert worker.stats.num_slow_drops > 0
    assert len(inbox.messages) + worker.stats.num_slow_drops == 300


async def test_it_must_be_open_to_send(twin: Twin) -> None:
    bus = twin.new("router")
    with pytest.raises(BusUnavailable):
        await bus.publish(WORKER, note(1))
    await bus.start()
    assert bus.connected
    await bus.close()
    assert not bus.connected
    with pytest.raises(BusUnavailable):
        await bus.publish(WORKER, note(1))
    with pytest.raises(BusUnavailable):
        await bus.request(REQUEST, note(1), timeout_s=10)
    await bus.close()


async def test_a_subscription_made_before_the_start_counts(twin: Twin) -> None:
    router, worker = await twin.connect("router"), twin.new("worker")
    inbox = Recorder()
    await worker.subscribe(WORKER, inbox)
    await worker.start()
    await router.publish(WORKER, note(1))
    assert await inbox.wait_for(1) == [note(1)]
    await worker.close()


async def test_closing_sends_what_was_published_before(twin: Twin) -> None:
    router, worker = await twin.connect("router"), await twin.connect("worker")
    inbox = Recorder()
    await worker.subscribe(WORKER, inbox)
    for number in range(500):
        await router.publish(WORKER, note(number, 1000))
    await router.close()
    assert await inbox.wait_for(500) == [note(number, 1000) for number in range(500)]


async def test_a_lost_connection_comes_back_with_its_subscriptions(twin: Twin) -> None:
    router, link = await twin.connect("router"), await twin.link("worker")
    inbox, late_inbox, gone = Recorder(), Recorder(), Recorder()
    changes: list[bool] = []
    link.bus.on_change(changes.append)
    await link.bus.subscribe(WORKER, inbox)
    to_unsubscribe = await link.bus.subscribe(WORKER, gone)
    await link.cut()
    assert not link.bus.connected
    await link.bus.subscribe(OTHER_WORKER, late_inbox)
    await to_unsubscribe.unsubscribe()
    await router.publish(WORKER, note(1))  # lost: core NATS keeps nothing
    await link.restore()
    assert link.bus.connected
    await router.publish(WORKER, note(2))
    await router.publish(OTHER_WORKER, note(3))
    assert await inbox.wait_for(1) == [note(2)]
    assert await late_inbox.wait_for(1) == [note(3)]
    assert gone.messages == []
    assert changes == [False, True]
    assert link.bus.stats.num_reconnects == 1


async def test_what_is_published_while_disconnected_arrives_in_order(twin: Twin) -> None:
    link, worker = await twin.link("router"), await twin.connect("worker")
    inbox = Recorder()
    await worker.subscribe(WORKER, inbox)
    await link.bus.publish(WORKER, note(0))
    await inbox.wait_for(1)
    await link.cut()
    for number in range(1, 100):
        await link.bus.publish(WORKER, note(number))
    back = state_changes_to(link.bus, True)
    await link.restore()
    await back
    await link.bus.publish(WORKER, note(100))
    assert await inbox.wait_for(101) == [note(number) for number in range(101)]


async def test_a_request_fails_at_once_while_disconnected(twin: Twin) -> None:
    link, router = await twin.link("gateway"), await twin.connect("router")
    await router.subscribe(subjects.ALL_REQUESTS, Recorder(reply=REFUSED))
    await link.cut()
    with pytest.raises(BusUnavailable):
        await link.bus.request(REQUEST, CANCEL, timeout_s=60)
    await link.restore()
    assert await link.bus.request(REQUEST, CANCEL, timeout_s=10) == REFUSED


async def test_a_request_that_waits_fails_when_the_connection_is_lost(twin: Twin) -> None:
    link, router = await twin.link("gateway"), await twin.connect("router")
    asked = Recorder(reply=None)
    await router.subscribe(subjects.ALL_REQUESTS, asked)
    waiting = [asyncio.create_task(link.bus.request(REQUEST, CANCEL, timeout_s=60)) for _ in range(3)]
    await asked.wait_for(3)
    await link.cut()
    async with asyncio.timeout(5):
        for request in waiting:
            with pytest.raises(BusUnavailable, match="lost"):
                await request


async def test_what_waits_while_disconnected_is_bounded(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.bus.OUTBOX_BYTES", 50_000)
    monkeypatch.setattr("shared.memory_bus.OUTBOX_BYTES", 50_000)
    link, worker = await twin.link("router"), await twin.connect("worker")
    inbox = Recorder()
    await worker.subscribe(WORKER, inbox)
    await link.cut()
    num_sent = 0
    with pytest.raises(BusUnavailable, match="waiting"):
        for _ in range(100):
            await link.bus.publish(WORKER, note(num_sent, 1000))
            num_sent += 1
    assert 40 < num_sent < 50
    await link.restore()
    assert await inbox.wait_for(num_sent) == [note(number, 1000) for number in range(num_sent)]
