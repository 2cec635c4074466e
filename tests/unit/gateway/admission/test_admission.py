"""Who is let in, and that whatever becomes of a call, what it held is given back."""

import asyncio
from dataclasses import dataclass, field

import pytest

from gateway.admission.admission import Admission
from gateway.admission.waiting import WaitingLines
from gateway.request.call import Call
from gateway.request.prompts import Text
from gateway.tenants.tenant import Limits, Tenant
from gateway.tenants.usage import Usages
from shared.errors import ErrorCode, RequestError
from shared.ids import ModelName
from shared.messages import GenerationParams
from tests.unit.gateway.output.choice_reading import ChoiceReading

MODEL = ModelName("m")
TENANT = Tenant("a", "a", Limits(concurrency=4, tokens_per_minute=1000), models=frozenset({MODEL}))


@dataclass
class Door:
    usages: Usages = field(default_factory=Usages)
    lines: WaitingLines = field(default_factory=lambda: WaitingLines(3, 3, 0.0))

    def __post_init__(self) -> None:
        self.admission = Admission(self.lines, self.usages, 5, lambda: 0.0)

    def is_empty(self) -> bool:
        usage = self.usages.of(TENANT, 0.0)
        return self.admission.num_open == 0 and usage.is_idle and not list(self.admission.in_flight())


def call(call_id: str = "c", *, n: int = 1, model: str = MODEL, tenant: Tenant = TENANT) -> Call:
    return Call(call_id, ModelName(model), (Text("x"),), GenerationParams(n=n), 0.0, tenant)


def refused(door: Door, asked: Call) -> ErrorCode:
    with pytest.raises(RequestError) as caught, door.admission.admitted(asked, 0):
        pass
    return caught.value.code


def test_an_open_call_is_shown_until_its_block_is_left() -> None:
    door = Door()
    with door.admission.admitted(call(n=2), 0) as opened:
        assert door.admission.num_open == 2
        assert [each.request_id for each in door.admission.in_flight()] == ["c-0", "c-1"]
        reading = ChoiceReading()
        opened.choices.append(reading.choice)
        assert door.admission.readers() == [reading.choice]
        assert reading.office.finished == []
    assert len(reading.office.finished) == 1  # it was closed
    assert door.is_empty() and door.admission.readers() == []


def test_a_failure_gives_everything_back() -> None:
    door, reading = Door(), ChoiceReading()
    with pytest.raises(ZeroDivisionError), door.admission.admitted(call(), 0) as opened:
        opened.choices.append(reading.choice)
        opened.claim.reserve(900, 0.0)
        raise ZeroDivisionError
    assert door.is_empty() and len(reading.office.finished) == 1
    allowance = door.usages.of(TENANT, 0.0).tokens(0.0)
    assert allowance is not None and allowance.remaining == 1000 - len(reading.choice.prompt)  # what it came to


def test_who_is_refused_holds_nothing() -> None:
    door = Door()
    assert refused(door, call(model="other")) is ErrorCode.PERMISSION_DENIED
    assert refused(door, call(n=65)) is ErrorCode.INVALID_REQUEST
    assert door.is_empty()
    with door.admission.admitted(call("first", n=2), 0):
        assert refused(door, call(n=4)) is ErrorCode.OVERLOADED  # the gateway's room
        assert refused(door, call(n=2)) is ErrorCode.OVERLOADED  # the line's
        others = Tenant("b", "b", Limits(concurrency=1))
        with door.admission.admitted(call("second", tenant=others), 0):
            assert door.admission.num_open == 3
            assert refused(door, call(tenant=others)) in (ErrorCode.RATE_LIMITED, ErrorCode.OVERLOADED)
        assert door.admission.num_open == 2
    assert door.is_empty()


async def test_a_gateway_that_stops_takes_nobody_and_ends_who_stays() -> None:
    door, ended = Door(), list[RequestError]()
    leave = asyncio.Event()

    def end_all(error: RequestError) -> None:
        ended.append(error)
        leave.set()

    async def stay() -> None:
        with door.admission.admitted(call(), 0):
            await leave.wait()

    staying = asyncio.create_task(stay())
    await asyncio.sleep(0)
    await door.admission.drain(0.0, end_all)
    assert [error.code for error in ended] == [ErrorCode.UNAVAILABLE]
    assert refused(door, call()) is ErrorCode.UNAVAILABLE
    await staying
    assert door.is_empty()


async def test_an_idle_gateway_stops_at_once() -> None:
    door, ended = Door(), list[RequestError]()
    await door.admission.drain(60.0, ended.append)
    assert ended == []
