"""Against the gateway's own objects, so that neither side changes alone."""

import msgspec

from cli.top import feed
from gateway.http.admin import feed_objects as gateway
from gateway.http.status import SloObject
from shared.ids import Incarnation, ModelName, OwnerId, WorkerId

A, W = ModelName("a"), WorkerId("w")


def read(event: gateway.FeedEvent) -> feed.Event:
    """Nothing is lost on the way."""
    data = msgspec.json.encode(event)
    found = feed.decode(data)
    assert found is not None
    assert msgspec.json.decode(msgspec.json.encode(found)) == msgspec.json.decode(data)
    return found


def test_a_state_is_read_as_a_gateway_writes_it() -> None:
    model = gateway.FeedModel(A, "loading", 0.5, True, 2, 3, 4, None, 0.99, 5.5, SloObject(10.0, 0.1))
    memory = gateway.FeedMemory(100, {A: 50})
    kv = gateway.FeedKv(1, 2)
    worker = gateway.FeedWorker(
        W, Incarnation("i"), False, "deadline", memory, gateway.FeedMemory(None, {}), kv, 6.0, 0.5
    )
    request = gateway.FeedRequest("r-0", A, "key-1", "prefill", 10, 0, 1.5, W, "computes its prompt")
    found = read(gateway.FeedState(7.5, OwnerId("g"), [model], [worker], [request], 9, 2))
    assert isinstance(found, feed.State)
    assert (found.at_s, found.models[0].progress, found.workers[0].device.models) == (7.5, 0.5, {"a": 50})
    assert (found.requests[0].phase, found.num_requests, found.num_viewers) == ("prefill", 9, 2)


def test_turns_are_read_as_a_gateway_writes_them() -> None:
    steps = [gateway.FeedStep(0.0, 0.01, 128, 3), gateway.FeedStep(0.02, 0.01, 0, 4)]
    turn = gateway.FeedTurn(A, 12.0, gateway.FeedSwitch("streamed", 0.1, 1000), steps)
    found = read(gateway.FeedTurns(W, [turn]))
    assert isinstance(found, feed.Turns)
    assert found.turns[0].switch == feed.Switch("streamed", 0.1, 1000)
    assert found.turns[0].steps == [feed.Step(0.0, 0.01, 128, 3), feed.Step(0.02, 0.01, 0, 4)]


def test_what_was_lost_is_told_and_what_is_new_is_skipped() -> None:
    assert read(gateway.FeedLost(3)) == feed.Lost(3)
    assert feed.decode(b'{"type": "of a later version", "number": []}') is None
