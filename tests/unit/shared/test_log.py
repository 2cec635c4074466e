"""What a log line looks like, and which request it is about."""

import asyncio
import json
import logging
from collections.abc import Iterator

import pytest

from shared import log
from shared.config import LogFormat
from shared.ids import Incarnation
from shared.log_control import levels_from
from shared.memory_bus import MemoryBroker
from shared.messages import SetLogLevel
from shared.subjects import CONTROL_LOG


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    log.set_level("gateway.metrics", None)
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)


def line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.strip()


def test_a_line_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    log.setup("router", "info")
    with log.about("req-1"):
        logging.getLogger("router.service").info("sent %d", 3, extra=log.fields(model="a b", total_s=1.23456))
    text = line(capsys)
    assert text.endswith("INFO    router router.service: sent 3 request=req-1 model='a b' total_s=1.235")
    assert "\x1b" not in text  # it is no terminal


def test_levels_are_in_colour_on_a_terminal_alone() -> None:
    record = logging.LogRecord("a", logging.ERROR, "", 0, "text", None, None)
    assert "\x1b[31mERROR  \x1b[0m" in log.Console("router", in_colour=True).format(record)
    assert "\x1b" not in log.Console("router", in_colour=False).format(record)


def test_a_line_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    log.setup("router", "info", "json")
    try:
        raise ValueError("why")
    except ValueError:
        with log.about("req-1"):
            logging.getLogger("a").exception("two\nlines", extra=log.fields(worker=Incarnation("w"), message="mine"))
    told = json.loads(line(capsys))
    assert told.pop("time").endswith("+00:00")
    assert told.pop("error").splitlines()[-1] == "ValueError: why"
    assert told == {
        "level": "error", "service": "router", "logger": "a", "message": "two\nlines",
        "request": "req-1", "worker": "w",
    }  # fmt: skip


async def test_tasks_are_about_what_they_began_in() -> None:
    async def subject() -> str:
        await asyncio.sleep(0)
        return log.subject()

    with log.about("a"):
        first = asyncio.create_task(subject())
    with log.about("b"):
        second = asyncio.create_task(subject())
        with log.about("c"):
            assert log.subject() == "c"
        assert log.subject() == "b"
    assert (await first, await second, log.subject()) == ("a", "b", "")


@pytest.mark.parametrize("style", ["console", "json"])
def test_levels_change_and_come_back(capsys: pytest.CaptureFixture[str], style: LogFormat) -> None:
    log.setup("router", "info", style)
    logger = logging.getLogger("gateway.metrics")
    logger.debug("not yet")
    assert log.set_level("gateway.metrics", "debug")
    logger.debug("now")
    assert log.set_level("gateway.metrics", None)
    logger.debug("no more")
    assert log.set_level("", "error") and log.set_level("", None)
    logger.info("as before")
    told = line(capsys).splitlines()
    assert len(told) == 2 and "now" in told[0] and "as before" in told[1]


def test_no_logger_is_made_by_asking() -> None:
    name = "gateway.no_such_module"
    assert not log.set_level(name, "debug")
    assert name not in logging.root.manager.loggerDict


@pytest.mark.parametrize(
    ("service", "is_meant"), [("", True), ("router", True), ("router-1", True), ("gateway", False), ("router-2", False)]
)
async def test_a_service_hears_what_is_meant_for_it(service: str, is_meant: bool) -> None:
    log.setup("router", "info")
    logger = logging.getLogger("gateway.metrics")
    bus = MemoryBroker().connect()
    await bus.start()
    async with levels_from(bus, "router", "router-1"):
        await bus.publish(CONTROL_LOG, SetLogLevel("gateway.metrics", "debug", service))
        await bus.close()  # what was received is handled
    assert logger.isEnabledFor(logging.DEBUG) == is_meant
