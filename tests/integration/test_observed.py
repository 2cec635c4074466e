"""What a whole stack tells those who look after it: scrapes and logs that are true, and of nothing else."""

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from shared import log
from tests.integration.tiny_models import TinyModels
from tests.integration.whole_stack import ADMIN_KEY, USER_KEY, WORKER, WholeStack, open_whole
from tests.scrapes import scrape

pytestmark = pytest.mark.asyncio(loop_scope="module")
PROMPT = "zyzzyva sat on the mat"
NUM_TOKENS = 6


@pytest.fixture(scope="module")
def lines() -> Iterator[io.StringIO]:
    """All that is logged, at every level, as JSON."""
    told, root = io.StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(told), root.level
    handler.setFormatter(log.JsonLines("whole"))
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield told
    root.setLevel(level)
    root.removeHandler(handler)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whole(
    tiny_models: TinyModels, tmp_path_factory: pytest.TempPathFactory, lines: io.StringIO
) -> AsyncIterator[WholeStack]:
    async with open_whole(tiny_models, tmp_path_factory.mktemp("state")) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def http(whole: WholeStack) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(whole.url, headers={"x-api-key": USER_KEY}) as session:
        yield session


async def complete(http: aiohttp.ClientSession, whole: WholeStack, **fields: Any) -> dict[str, Any]:
    body = {"model": whole.model, "prompt": PROMPT, "max_tokens": NUM_TOKENS, "ignore_eos": True, **fields}
    async with http.post("/v1/completions", json=body, headers={"X-Request-Id": "req-of-mine"}) as response:
        assert response.status == 200, await response.text()
        answer: dict[str, Any] = await response.json()
        return answer


def told_of(lines: io.StringIO, message: str) -> list[dict[str, Any]]:
    said = [json.loads(line) for line in lines.getvalue().splitlines()]
    return [line for line in said if line["message"] == message]


async def test_a_request_by_all_its_names(whole: WholeStack, http: aiohttp.ClientSession) -> None:
    usage = (await complete(http, whole))["usage"]
    found = {service: await asyncio.to_thread(scrape, at) for service, at in whole.addresses.items()}
    gateway, worker, model = found["gateway"], found["worker"], whole.model
    [tenant] = {name for name in gateway if name.startswith("kottos_tenant_output_tokens_total")}
    assert gateway[tenant] == gateway[f"vllm:generation_tokens_total{{{model}}}"] == NUM_TOKENS
    assert gateway[f"vllm:prompt_tokens_total{{{model}}}"] == usage["prompt_tokens"]
    assert gateway[f"vllm:request_success_total{{length,{model}}}"] == 1
    for name in ("time_to_first_token", "e2e_request_latency", "request_time_per_output_token"):
        assert gateway[f"vllm:{name}_seconds_count{{{model}}}"] == 1, name
    assert gateway[f"vllm:inter_token_latency_seconds_count{{{model}}}"] == NUM_TOKENS - 1
    assert gateway[f"gen_ai_server_request_duration_seconds_count{{generate_content,kottos,{model}}}"] == 1
    assert gateway[f"kottos_good_requests_total{{{model}}}"] == 1
    assert worker[f"kottos_queue_seconds_count{{{model}}}"] == 1
    assert worker[f"vllm:num_requests_running{{{model}}}"] == worker[f"vllm:kv_cache_usage_perc{{{model}}}"] == 0
    assert worker["kottos_host_cache_bytes{used}"] > 0 and worker["kottos_host_cache_reads_total{}"] > 0
    for service, rows in found.items():
        assert rows["kottos_bus_connected{}"] == 1, service
        assert rows["kottos_memory_limit_bytes{}"] > rows["process_resident_memory_bytes{}"] > 0, service
        assert any(name.startswith(f"kottos_build_info{{{service},") for name in rows)


async def test_the_access_log_says_how_each_request_ended(
    whole: WholeStack, http: aiohttp.ClientSession, lines: io.StringIO
) -> None:
    lines.seek(0)
    lines.truncate()
    usage = (await complete(http, whole))["usage"]
    async with http.post("/v1/completions", json={"model": whole.model, "prompt": PROMPT, "top_p": 7}) as response:
        assert response.status == 400
    [ended], [refused] = told_of(lines, "ended"), told_of(lines, "refused")
    assert (ended["level"], ended["logger"], ended["request"]) == ("info", "gateway.access", "req-of-mine")
    assert (ended["model"], ended["status"], ended["worker"]) == (whole.model, "length", WORKER)
    assert (ended["num_prompt_tokens"], ended["num_output_tokens"]) == (usage["prompt_tokens"], NUM_TOKENS)
    assert 0 < ended["ttft_s"] < ended["total_s"]
    assert (refused["status"], refused["model"]) == ("invalid_request", whole.model)
    assert refused["tenant"] == ended["tenant"]


async def test_no_log_has_a_prompt_an_output_or_a_key(
    whole: WholeStack, http: aiohttp.ClientSession, lines: io.StringIO
) -> None:
    """At every level, also of what goes wrong."""
    answer = await complete(http, whole, prompt=PROMPT, return_token_ids=True, max_tokens=40)
    [choice] = answer["choices"]
    secret = "no-such-key-but-still-a-secret"
    wrong: list[dict[str, Any]] = [
        {"model": PROMPT, "prompt": PROMPT},
        {"model": whole.model, "prompt": PROMPT, "max_tokens": "zyzzyva"},
        {"model": whole.model, "prompt": PROMPT * 1000},
        {"model": whole.model, "prompt": PROMPT, "structured_outputs": {"regex": "zyzzyva("}},
        {"model": whole.model, "prompt": PROMPT, "timeout_s": 1e-6},
    ]
    for body in wrong:
        async with http.post("/v1/completions", json=body) as response:
            assert response.status >= 400, body
    headers = {"Content-Type": "application/json"}
    async with http.post("/v1/completions", data=f'{{"prompt": "{PROMPT}', headers=headers) as response:
        assert response.status == 400
    strange = {"Authorization": f"Bearer {secret}"}
    async with (
        aiohttp.ClientSession(whole.url, headers=strange) as stranger,
        stranger.post("/v1/completions", json={"prompt": PROMPT}) as response,
    ):
        assert response.status == 401
    chat = {"model": whole.model, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 400, "stream": True}
    async with http.post("/v1/chat/completions", json=chat) as response:
        await response.content.readany()  # and leaves
    said = lines.getvalue()
    assert logging.getLogger("gpu_worker.engine").isEnabledFor(logging.DEBUG) and len(choice["text"]) > 10
    token_ids = [", ".join(map(str, ids)) for ids in (answer.get("prompt_token_ids"), choice["token_ids"]) if ids]
    secrets = [USER_KEY, ADMIN_KEY, secret, choice["text"], json.dumps(choice["text"]), *token_ids]
    assert [each for each in secrets if each in said] == []
    leaks = [line for line in said.splitlines() if "zyzzyva" in line]
    assert [
        line for line in leaks if json.loads(line).get("model") != PROMPT
    ] == []  # as the name of a model it is told


async def test_levels_change_by_an_administrator(whole: WholeStack, http: aiohttp.ClientSession) -> None:
    logger = logging.getLogger("gpu_worker.engine")
    body: dict[str, Any] = {"logger": "gpu_worker.engine", "level": "warning"}
    async with http.put("/admin/log-level", json=body) as response:
        assert response.status == 403
    async with aiohttp.ClientSession(whole.url, headers={"x-api-key": ADMIN_KEY}) as admin:
        for service, level, expected in (
            ("worker-9", "warning", 0),
            (WORKER, "warning", logging.WARNING),
            ("", None, 0),
        ):
            async with admin.put("/admin/log-level", json=body | {"level": level, "service": service}) as response:
                assert (response.status, (await response.json())["level"]) == (200, level)
            assert logger.level == expected
        async with admin.put("/admin/log-level", json={"level": "loud"}) as response:
            assert response.status == 400
