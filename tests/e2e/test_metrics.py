"""Every service of the stack can be scraped, and knows of a request that went through all of them."""

import json
import urllib.request

from openai import AsyncOpenAI

from benchmarks.served import Served
from tests.e2e.driving import CHAT_MODEL, complete
from tests.scrapes import scrape

NUM_TOKENS = 5


def targets(served: Served) -> dict[str, str]:
    """Service -> host:port."""
    with urllib.request.urlopen(f"{served.url}/metrics/targets", timeout=10) as answer:
        return {found["labels"]["service"]: found["targets"][0] for found in json.load(answer)}


async def test_a_request_shows_in_every_service(stack: Served, client: AsyncOpenAI) -> None:
    addresses = targets(stack)
    assert set(addresses) == {"gateway", "router", "worker"}
    names = {
        "gateway": f"kottos_requests_total{{length,{CHAT_MODEL}}}",
        "router": f"kottos_router_assignments_total{{{CHAT_MODEL}}}",
        "worker": f"kottos_steps_total{{{CHAT_MODEL}}}",
    }
    before = {service: scrape(addresses[service]).get(name, 0.0) for service, name in names.items()}
    exactly = {"ignore_eos": True, "return_token_ids": True}
    await complete(client, CHAT_MODEL, "Once upon", max_tokens=NUM_TOKENS, extra_body=exactly)
    after = {service: scrape(addresses[service]) for service in names}
    gained = {service: after[service][name] - before[service] for service, name in names.items()}
    assert gained == {"gateway": 1, "router": 1, "worker": NUM_TOKENS}
    assert after["worker"]["kottos_loop_cpu_seconds_total{}"] > 0
