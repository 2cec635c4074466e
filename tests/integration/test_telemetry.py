"""Scrapes over HTTP."""

import asyncio

import pytest

from shared.config import TelemetryConfig
from shared.errors import ConfigError
from shared.health import ask
from shared.telemetry import Registry
from tests.scrapes import scrape


def test_nobody_listens_unless_told_where() -> None:
    with Registry().serving(TelemetryConfig()) as address:
        assert address == ""


def test_two_services_of_a_machine_answer_side_by_side() -> None:
    config = TelemetryConfig(metrics_host="127.0.0.1")
    first, second = Registry(), Registry()
    first.counter("kottos_steps_total", "Steps.").inc()
    second.counter("kottos_steps_total", "Steps.").inc(2)
    with first.serving(config) as here, second.serving(config) as there:
        assert [scrape(address)["kottos_steps_total{}"] for address in (here, there)] == [1, 2]
        taken = TelemetryConfig("127.0.0.1", int(here.rpartition(":")[2]))
        with pytest.raises(ConfigError, match=r"telemetry\.metrics_port"), second.serving(taken):
            pass


async def test_health_is_asked_beside_the_metrics() -> None:
    registry, reason = Registry(), ["no model is loaded yet"]
    registry.why_not_ready = lambda: reason[0]
    registry.attach(asyncio.get_running_loop())
    with registry.serving(TelemetryConfig(metrics_host="127.0.0.1")) as address:
        url = f"http://{address}"
        assert await asyncio.to_thread(ask, f"{url}/health") == ""
        assert await asyncio.to_thread(ask, f"{url}/ready") == "503: no model is loaded yet"
        reason[0] = ""
        assert await asyncio.to_thread(ask, f"{url}/ready") == ""
    assert (await asyncio.to_thread(ask, f"{url}/ready")).startswith("no answer: ")
