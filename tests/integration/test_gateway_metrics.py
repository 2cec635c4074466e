"""What a gateway tells scrapers after requests."""

import json
import urllib.error
import urllib.request
from asyncio import to_thread
from pathlib import Path

from msgspec.structs import replace

from shared import subjects
from shared.ids import WorkerId
from shared.messages import WorkerBeat
from tests.integration.gateway_harness import BASE, encode, open_stack
from tests.integration.scripted_worker import FIRST_LIFE, ROUTER
from tests.scrapes import scrape


def ask(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read()


async def test_requests_tokens_and_answers(tmp_path: Path) -> None:
    async with open_stack(tmp_path) as stack:
        token_ids = stack.says("one two")
        stack.worker.num_cached_tokens = 2
        async with stack.client() as client:
            await client.completions.create(model=BASE, prompt="lazy")
            async for _ in await client.completions.create(model=BASE, prompt="lazy", stream=True):
                pass
        try:
            await to_thread(ask, f"{stack.url}/v1/models/foreign")
        except urllib.error.HTTPError as error:
            assert error.code == 404
        found = await to_thread(scrape, stack.url.removeprefix("http://"))
    assert found[f"kottos_requests_total{{stop,{BASE}}}"] == 2
    assert found[f"kottos_prompt_tokens_total{{{BASE}}}"] == 2 * (1 + len(encode("lazy")))
    assert found[f"kottos_cached_prompt_tokens_total{{{BASE}}}"] == 4
    assert found[f"kottos_output_tokens_total{{{BASE}}}"] == 2 * len(token_ids)
    assert found[f"kottos_time_to_first_token_seconds_count{{{BASE}}}"] == 2
    assert found[f"kottos_inter_token_seconds_count{{{BASE}}}"] == 2 * (len(token_ids) - 1)
    assert found[f"kottos_due_tokens_total{{{BASE}}}"] == 2 * len(token_ids)
    assert found["kottos_http_responses_total{/v1/completions,2xx}"] == 2
    assert not any("foreign" in name for name in found)  # nothing that a client wrote
    assert sum(n for name, n in found.items() if name.startswith("kottos_http_responses_total{/v1/models/")) == 1
    assert (found["kottos_requests_in_flight{}"], found["kottos_requests_waiting{}"]) == (0, 0)
    assert found["kottos_bus_connected{}"] == 1


async def test_targets_of_all_who_say_where(tmp_path: Path) -> None:
    async with open_stack(tmp_path) as stack:
        beat = WorkerBeat(WorkerId("worker-1"), FIRST_LIFE, 1, (), ROUTER, 0, 0, 0, {})
        await stack.worker.bus.publish(subjects.BEAT_WORKER, replace(beat, metrics_address="10.0.0.7:9101"))
        targets = json.loads(await to_thread(ask, f"{stack.url}/metrics/targets"))
    assert targets == [
        {"targets": [stack.url.removeprefix("http://")], "labels": {"service": "gateway"}},
        {"targets": ["10.0.0.7:9101"], "labels": {"service": "worker", "name": "worker-1"}},
    ]
