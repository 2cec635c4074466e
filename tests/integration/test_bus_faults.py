"""NatsBus when the server, the network or the credentials fail."""

import asyncio
import gc
from collections.abc import AsyncIterator

import msgspec
import pytest

from cli.broker import MAX_PAYLOAD_BYTES, EmbeddedBroker
from shared import subjects
from shared.bus import NatsBus
from shared.config import BusConfig
from shared.errors import BusUnavailable, MessageTooLarge
from shared.ids import OwnerId, RequestId, WorkerId
from shared.messages import EndAck, OwnerBeat, encode
from tests.bus_twins import state_changes_to
from tests.recorder import Recorder
from tests.tcp_proxy import TcpProxy

WORKER = subjects.worker(WorkerId("worker-1"))


def note(number: int, num_bytes: int = 0) -> EndAck:
    return EndAck(OwnerId(f"owner-{number}"), (RequestId("x" * num_bytes),))


@pytest.fixture
async def router(broker: EmbeddedBroker) -> AsyncIterator[NatsBus]:
    bus = NatsBus(broker.config("router"), "router")
    await bus.start()
    yield bus
    await bus.close()


@pytest.fixture
async def worker(broker: EmbeddedBroker) -> AsyncIterator[NatsBus]:
    bus = NatsBus(broker.config("worker"), "worker")
    await bus.start()
    yield bus
    await bus.close()


async def test_wrong_credentials_are_called_so_at_once(broker: EmbeddedBroker) -> None:
    good = broker.config("router")
    for bad in (
        msgspec.structs.replace(good, password="wrong-password"),
        msgspec.structs.replace(good, user="nobody"),
        BusConfig(url=good.url),
        BusConfig(url=good.url.replace("//", "//router:wrong-password@")),
    ):
        with pytest.raises(BusUnavailable, match="rejects the credentials") as error:
            await NatsBus(bad, "router").start()
        assert "wrong-password" not in str(error.value)


async def test_no_server_and_no_nats_server_are_found_out_in_time() -> None:
    with pytest.raises(BusUnavailable, match=r"no NATS server answers at 127\.0\.0\.1:9$"):
        await NatsBus(BusConfig("nats://user:secret@127.0.0.1:9"), "router").start()


async def test_a_server_that_never_greets_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.bus.CONNECT_TIMEOUT_S", 0.1)
    accepted = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(BusUnavailable, match="no NATS server answers"):
            await NatsBus(BusConfig(f"nats://127.0.0.1:{port}"), "router").start()
    assert accepted.is_set()


async def test_an_error_that_ends_the_connection_for_good_is_survived(
    broker: EmbeddedBroker, router: NatsBus, worker: NatsBus
) -> None:
    inbox = Recorder()
    await worker.subscribe(WORKER, inbox)
    for bus in (router, worker):
        back = state_changes_to(bus, True)
        # Over the payload limit by its headers alone: the server answers -ERR and closes.
        assert bus._client is not None
        payload = b"x" * (bus._client.max_payload - 10)
        await bus._client.publish(WORKER if bus is router else subjects.BEAT_WORKER, payload, headers={"a": "b" * 100})
        await back
    await router.publish(WORKER, note(1))
    assert await inbox.wait_for(1) == [note(1)]


async def test_the_payload_limit_leaves_room_for_headers(
    broker: EmbeddedBroker, router: NatsBus, worker: NatsBus
) -> None:
    inbox = Recorder()
    await worker.subscribe(WORKER, inbox)
    with pytest.raises(MessageTooLarge) as error:
        await router.publish(WORKER, note(1, MAX_PAYLOAD_BYTES))
    largest = note(1, error.value.limit_bytes - len(encode(note(1))) - 4)  # a string's length takes 4 bytes more
    assert len(encode(largest)) == error.value.limit_bytes
    assert router._client is not None
    headers = {"traceparent": "0" * 55, "tracestate": "x" * 512}
    await router._client.publish(WORKER, encode(largest), headers=headers)
    assert await inbox.wait_for(1) == [largest]
    assert router.stats.num_reconnects == 0


async def test_a_permission_violation_is_counted_and_the_connection_lives(
    broker: EmbeddedBroker, router: NatsBus, worker: NatsBus, caplog: pytest.LogCaptureFixture
) -> None:
    client = NatsBus(broker.config("client"), "client")
    await client.start()
    worker_inbox, stolen, own = Recorder(), Recorder(), Recorder()
    await worker.subscribe(WORKER, worker_inbox)
    await client.subscribe("kottos.owner.*", stolen)
    await client.publish(WORKER, note(1))
    await client.publish(subjects.CALL, note(1))
    await client.subscribe(subjects.EVENTS, own)
    await router.publish(subjects.owner(OwnerId("gateway-1")), note(2))
    await router.publish(WORKER, note(3))
    await router.publish(subjects.EVENT_WORKER_CAME, note(4))
    assert await own.wait_for(1) == [note(4)]
    assert await worker_inbox.wait_for(1) == [note(3)]
    assert stolen.messages == []
    assert client.stats.num_violations == 2
    assert client.stats.num_reconnects == 0
    assert "permissions violation for subscription" in caplog.text
    await client.close()


@pytest.mark.parametrize(
    ("user", "may_not_publish", "may_not_subscribe"),
    [
        ("client", "kottos.client.other", "kottos.request.*"),
        ("worker", "kottos.request.tiny", "kottos.owner.*"),
        ("router", "kottos.client.someone", "kottos.client.*"),
        ("gateway", "kottos.beat.router", "_INBOX_client.>"),
        ("worker", "kottos.control.model", "kottos.control.model"),
        ("operator", "kottos.catalogue", "kottos.control.model"),
        ("steward", "kottos.beat.worker", "_INBOX_client.>"),
    ],
)
async def test_each_user_may_do_its_own_things_only(
    broker: EmbeddedBroker, user: str, may_not_publish: str, may_not_subscribe: str
) -> None:
    bus = NatsBus(broker.config(user), user)
    await bus.start()
    await bus.publish(may_not_publish, note(1))
    await bus.subscribe(may_not_subscribe, Recorder())
    assert bus.stats.num_violations == 2
    await bus.close()


async def test_all_messages_of_the_page_are_permitted(broker: EmbeddedBroker) -> None:
    buses = {user: NatsBus(broker.config(user), user) for user in subjects.PERMISSIONS}
    for user, bus in buses.items():
        await bus.start()
        for subject in subjects.PERMISSIONS[user].subscribe:
            await bus.subscribe(subject, Recorder())
        for subject in subjects.PERMISSIONS[user].publish:
            await bus.publish(subject.replace("*", "x").replace(">", "x"), note(1))
        await bus.subscribe(subjects.PERMISSIONS[user].subscribe[0], Recorder())
    assert {user: bus.stats.num_violations for user, bus in buses.items()} == dict.fromkeys(buses, 0)
    for bus in buses.values():
        await bus.close()


async def test_the_server_crashes_and_comes_back(broker: EmbeddedBroker, router: NatsBus, worker: NatsBus) -> None:
    inbox, beats = Recorder(), Recorder()
    await worker.subscribe(WORKER, inbox)
    await worker.subscribe(subjects.BEAT_OWNER, beats)
    lost = [state_changes_to(bus, False) for bus in (router, worker)]
    await broker.kill()
    await asyncio.gather(*lost)
    back = [state_changes_to(bus, True) for bus in (router, worker)]
    await broker.start()
    await asyncio.gather(*back)
    for number in range(300):
        await router.publish(WORKER, note(number))
    assert await inbox.wait_for(300) == [note(number) for number in range(300)]


async def test_it_publishes_on_while_the_server_crashes(
    broker: EmbeddedBroker, router: NatsBus, worker: NatsBus
) -> None:
    inbox = Recorder()
    await worker.subscribe(WORKER, inbox)
    back = [state_changes_to(bus, True) for bus in (router, worker)]
    number = 0

    async def publish_until(stop: asyncio.Event) -> None:
        nonlocal number
        while not stop.is_set():
            await router.publish(WORKER, note(number, 100))
            number += 1
            await asyncio.sleep(0.0005)

    stop = asyncio.Event()
    publishing = asyncio.create_task(publish_until(stop))
    await inbox.wait_for(100)
    await broker.kill()
    await broker.start()
    await asyncio.gather(*back)
    stop.set()
    await publishing
    await router.publish(WORKER, note(number, 100))
    async with asyncio.timeout(10):
        while inbox.messages[-1] != note(number, 100):
            await inbox.wait_for(len(inbox.messages) + 1)
    numbers = [int(message.owner.rpartition("-")[2]) for message in inbox.messages if isinstance(message, EndAck)]
    assert numbers == sorted(set(numbers))


async def test_a_frozen_server_is_noticed_and_left(broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.bus.PING_INTERVAL_S", 0.1)
    monkeypatch.setattr("shared.bus.CONNECT_TIMEOUT_S", 0.3)
    async with TcpProxy(broker.setup.port) as proxy:
        config = msgspec.structs.replace(broker.config("worker"), url=f"nats://127.0.0.1:{proxy.port}")
        bus = NatsBus(config, "worker")
        await bus.start()
        lost = state_changes_to(bus, False)
        proxy.freeze()
        await lost
        back = state_changes_to(bus, True)
        proxy.thaw()
        await back
        await bus.close()


@pytest.fixture
async def proxy(broker: EmbeddedBroker) -> AsyncIterator[TcpProxy]:
    async with TcpProxy(broker.setup.port) as proxy:
        yield proxy


@pytest.fixture
async def proxied(broker: EmbeddedBroker, proxy: TcpProxy) -> AsyncIterator[NatsBus]:
    """A router's bus behind the proxy."""
    config = msgspec.structs.replace(broker.config("router"), url=f"nats://127.0.0.1:{proxy.port}")
    bus = NatsBus(config, "router")
    await bus.start()
    yield bus
    await bus.close()


async def publish_until_it_waits(bus: NatsBus) -> list["asyncio.Task[None]"]:
    """Publishes more than a frozen server takes, until some of it waits within the client."""
    assert bus._client is not None
    publishing: list[asyncio.Task[None]] = []
    while bus._client.pending_data_size < 2 << 20:
        publishing.append(asyncio.create_task(bus.publish(WORKER, note(1, 1 << 19))))
        await asyncio.sleep(0)
    return publishing


async def test_what_waits_for_a_server_that_reads_nothing_is_bounded(
    proxied: NatsBus, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.bus.OUTBOX_BYTES", 4 << 20)
    proxy.freeze()
    waiting = await publish_until_it_waits(proxied)
    with pytest.raises(BusUnavailable, match="wait for the server"):
        for _ in range(8):
            waiting.append(asyncio.create_task(proxied.publish(WORKER, note(1, 1 << 19))))
            await asyncio.sleep(0)
            await asyncio.gather(*(task for task in waiting if task.done()))
    assert proxied.connected
    proxy.thaw()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_server_that_answers_no_ping_is_left(
    proxied: NatsBus, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.bus.ROUND_TRIP_TIMEOUT_S", 0.1)
    proxy.freeze()
    lost = state_changes_to(proxied, False)
    waiting = await publish_until_it_waits(proxied)
    await lost
    proxy.thaw()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_reset_while_bytes_wait_is_noticed_at_once_and_leaves_no_task(
    proxied: NatsBus, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("shared.bus.LOST_CHECK_S", 60.0)
    await proxied.subscribe(subjects.ALL_REQUESTS, Recorder())
    proxy.freeze()
    waiting = await publish_until_it_waits(proxied)
    lost, back = state_changes_to(proxied, False), state_changes_to(proxied, True)
    async with asyncio.timeout(2):
        await proxy.cut()
        await lost
        await asyncio.gather(*waiting)  # publishers don't wait for a lost connection
    proxy.thaw()
    await proxy.restore()
    await back
    await proxied.close()
    gc.collect()
    await asyncio.sleep(0)
    assert "never retrieved" not in caplog.text and "was destroyed" not in caplog.text
    left = " ".join(repr(task.get_coro()) for task in asyncio.all_tasks())
    assert "Client." not in left and "Subscription." not in left and "NatsBus." not in left


async def test_a_fast_publisher_is_slowed_down_and_not_refused(router: NatsBus, worker: NatsBus) -> None:
    inbox = Recorder()
    await worker.subscribe(WORKER, inbox)
    for number in range(24):
        await router.publish(WORKER, note(number, 2 << 20))
    assert await inbox.wait_for(24) == [note(number, 2 << 20) for number in range(24)]


async def test_a_subscription_stands_when_subscribe_returns_also_behind_other_traffic(
    broker: EmbeddedBroker, proxied: NatsBus
) -> None:
    gateway = NatsBus(broker.config("gateway"), "gateway")
    await gateway.start()
    for number in range(50):
        filling = asyncio.create_task(proxied.publish(WORKER, note(number, 900_000)))
        await asyncio.sleep(0)
        inbox = Recorder()
        subscription = await proxied.subscribe(subjects.ALL_REQUESTS, inbox)
        await gateway.publish("kottos.request.tiny", note(number))
        assert await inbox.wait_for(1, timeout_s=1) == [note(number)]
        await subscription.unsubscribe()
        await filling
    await gateway.close()


async def test_a_cancelled_subscribe_does_not_harm_the_connection(broker: EmbeddedBroker, router: NatsBus) -> None:
    subscribing = asyncio.create_task(router.subscribe(subjects.ALL_REQUESTS, Recorder()))
    await asyncio.sleep(0)
    subscribing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await subscribing
    gateway = NatsBus(broker.config("gateway"), "gateway")
    await gateway.start()
    inbox = Recorder(reply=OwnerBeat(OwnerId("gateway-1")))
    await router.subscribe(subjects.ALL_REQUESTS, inbox, queue="q")
    assert await gateway.request("kottos.request.tiny", note(1), timeout_s=5) == OwnerBeat(OwnerId("gateway-1"))
    assert router.stats.num_reconnects == 0
    await gateway.close()


async def test_a_callback_that_fails_does_not_stop_reconnecting(
    broker: EmbeddedBroker, router: NatsBus, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(connected: bool) -> None:
        raise RuntimeError("no")

    router.on_change(fail)
    back = state_changes_to(router, True)
    await broker.kill()
    await broker.start()
    await back
    assert caplog.text.count("a callback of router failed") == 2


async def test_closing_leaves_no_task(broker: EmbeddedBroker) -> None:
    before = asyncio.all_tasks()
    bus = NatsBus(broker.config("worker"), "worker")
    await bus.start()
    await bus.subscribe(WORKER, Recorder())
    await bus.close()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_closing_while_it_tries_to_reconnect_ends_in_time(
    broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.bus.BACKOFF_S", (0.001, 0.001))
    buses = [NatsBus(broker.config("worker"), "worker") for _ in range(20)]
    for bus in buses:
        await bus.start()
    lost = [state_changes_to(bus, False) for bus in buses]
    await broker.kill()
    await asyncio.gather(*lost)
    async with asyncio.timeout(5):
        for bus in buses:
            await bus.close()
    assert [task for task in asyncio.all_tasks() if task.get_name() == "bus worker"] == []
