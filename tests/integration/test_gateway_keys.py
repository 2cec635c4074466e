"""API keys as clients meet them: who gets in, to which models, how much of them, and what workers hear of it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from msgspec.structs import replace
from openai import AsyncOpenAI

from gateway.app import open_gateway
from gateway.tenants.tenant import BUS, LOCAL
from shared.api_keys import change_keys, hash_of, key_file, new_key, without
from shared.client import KottosClient
from shared.config import BusConfig, Config, GatewayConfig, KeysConfig
from shared.errors import ConfigError
from shared.memory_bus import MemoryBroker
from shared.messages import Ended, Submit
from tests.integration.gateway_harness import ASLEEP, BASE, CHAT, Stack, encode, make_config, make_key, open_stack

UNLIMITED, ONE_MODEL, ADMIN = (f"sk-kottos-{name}-0123456789" for name in ("unlimited", "one-model", "admin"))
CHANGE_TIMEOUT_S = 10.0


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    make_key(tmp_path, "unlimited", UNLIMITED)
    make_key(tmp_path, "one-model", ONE_MODEL, models=(BASE,), priority=2)
    async with open_stack(tmp_path) as opened:
        opened.says(" dog")
        yield opened


def client_of(stack: Stack, key: str) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=key, max_retries=0, timeout=20)


async def complete(stack: Stack, key: str, model: str = BASE, **asked: Any) -> Any:
    async with client_of(stack, key) as client:
        return await client.completions.with_raw_response.create(model=model, prompt="fox", **asked)


# --- who gets in --------------------------------------------------------------------------------


async def test_a_key_gets_in_and_nothing_else_does(stack: Stack) -> None:
    assert (await complete(stack, UNLIMITED)).status_code == 200
    for wrong in (UNLIMITED[:-1], f"{UNLIMITED}x", hash_of(UNLIMITED), "none"):
        with pytest.raises(openai.AuthenticationError) as caught:
            await complete(stack, wrong)
        assert (caught.value.code, caught.value.type) == ("invalid_api_key", "invalid_request_error")
        assert wrong not in caught.value.response.text
        assert caught.value.response.headers["WWW-Authenticate"] == "Bearer"
    assert len(await stack.worker.wait_for(Submit)) == 1


HEADERS: list[tuple[dict[str, str], int]] = [
    ({}, 401),
    ({"Authorization": f"Bearer {UNLIMITED}"}, 200),
    ({"Authorization": f"bearer  {UNLIMITED} "}, 200),
    ({"x-api-key": UNLIMITED}, 200),
    ({"Authorization": f"Basic {UNLIMITED}"}, 401),
    ({"Authorization": UNLIMITED}, 401),
    ({"Authorization": "Bearer "}, 401),
    ({"Authorization": "Bearer ÿ"}, 401),
    ({"x-api-key": "x" * 5000}, 401),
]


async def test_headers(stack: Stack) -> None:
    async with aiohttp.ClientSession(stack.url) as http:
        for headers, status in HEADERS:
            async with http.get("/v1/models", headers=headers) as response:
                assert response.status == status, headers


async def test_health_and_metrics_need_no_key_and_everything_else_does(stack: Stack) -> None:
    async with aiohttp.ClientSession(stack.url) as http:
        for path in ("/health", "/ready", "/metrics", "/metrics/targets"):
            async with http.get(path) as response:
                assert response.status == 200, path
        for path in ("/v1/models", "/v1/nothing", "/nothing", "/health/../v1/models", "/%76%31/models"):
            async with http.get(path) as response:
                assert response.status == 401, path
        async with http.post("/v1/completions", data=b"{") as response:
            assert response.status == 401  # before the body is looked at


async def test_the_first_key_closes_the_gateway_and_the_last_one_leaves_it_closed(tmp_path: Path) -> None:
    key, path = new_key(), key_file(Config(state_dir=tmp_path / "state"))
    async with open_stack(tmp_path) as stack, stack.client() as nobody:
        stack.says(" dog")
        assert (await nobody.completions.create(model=BASE, prompt="fox")).choices[0].text == " dog"
        make_key(tmp_path, "first", key)
        async with asyncio.timeout(CHANGE_TIMEOUT_S):
            await refuses(nobody)
        assert (await complete(stack, key)).status_code == 200
        change_keys(path, lambda keys: without(keys, "first"))
        async with client_of(stack, key) as revoked, asyncio.timeout(CHANGE_TIMEOUT_S):
            await refuses(revoked)
            await refuses(nobody)
        make_key(tmp_path, "second", key)
        async with client_of(stack, key) as again, asyncio.timeout(CHANGE_TIMEOUT_S):
            while not await lets_in(again):
                pass


async def refuses(client: AsyncOpenAI) -> None:
    """Sooner or later."""
    while await lets_in(client):
        pass


async def lets_in(client: AsyncOpenAI) -> bool:
    try:
        await client.models.list()
    except openai.AuthenticationError:
        return False
    return True


async def test_a_request_outlives_its_key(tmp_path: Path) -> None:
    key, path, token_ids = new_key(), key_file(Config(state_dir=tmp_path / "state")), encode(" dog")
    make_key(tmp_path, "a", key)
    async with open_stack(tmp_path) as stack, client_of(stack, key) as client:
        asking = asyncio.create_task(client.completions.create(model=BASE, prompt="fox", max_tokens=len(token_ids)))
        [submit] = await stack.worker.wait_for(Submit)
        change_keys(path, lambda keys: without(keys, "a"))
        async with client_of(stack, key) as other, asyncio.timeout(CHANGE_TIMEOUT_S):
            await refuses(other)
        await stack.worker.say(submit.request_id, *token_ids, ended=Ended("length"))
        assert (await asking).choices[0].text == " dog"


async def test_it_refuses_to_serve_other_machines_without_keys(tmp_path: Path) -> None:
    config = make_config(tmp_path, GatewayConfig(host="0.0.0.0", port=0))
    with pytest.raises(ConfigError, match="kottos keys create"):
        async with open_gateway(config, MemoryBroker().connect("gateway")):
            pass
    with_key = replace(config, keys=KeysConfig(api=f"a={UNLIMITED}"))
    async with open_gateway(with_key, MemoryBroker().connect("gateway")) as gateway:
        url = f"http://127.0.0.1:{gateway.port}"
        headers = {"x-api-key": UNLIMITED}
        async with aiohttp.ClientSession(url, headers=headers) as http, http.get("/v1/models") as response:
            assert response.status == 200


# --- limits -------------------------------------------------------------------------------------


async def test_other_models_are_neither_served_nor_shown(stack: Stack) -> None:
    for model in (CHAT, ASLEEP, "no-such-model"):
        with pytest.raises(openai.PermissionDeniedError) as caught:
            await complete(stack, ONE_MODEL, model)
        assert (caught.value.code, caught.value.param) == ("permission_denied", "model")
    assert (await complete(stack, ONE_MODEL, BASE)).status_code == 200
    async with client_of(stack, ONE_MODEL) as client:
        assert [model.id async for model in client.models.list()] == [BASE]
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve(CHAT)
    async with client_of(stack, UNLIMITED) as client:
        assert [model.id async for model in client.models.list()] == [CHAT, BASE, ASLEEP]


async def test_requests_per_minute(tmp_path: Path) -> None:
    key, other = new_key(), new_key()
    make_key(tmp_path, "a", key, requests_per_minute=2)
    make_key(tmp_path, "b", other, requests_per_minute=2)
    async with open_stack(tmp_path) as stack:
        stack.says(" dog")
        first = await complete(stack, key)
        assert first.headers["x-ratelimit-limit-requests"] == "2"
        assert first.headers["x-ratelimit-remaining-requests"] == "1"
        assert first.headers["x-ratelimit-reset-requests"].endswith("s")
        assert "x-ratelimit-limit-tokens" not in first.headers
        streamed = await complete(stack, key, stream=True)
        assert streamed.headers["x-ratelimit-remaining-requests"] == "0"
        with pytest.raises(openai.RateLimitError) as caught:
            await complete(stack, key)
        assert (caught.value.code, caught.value.type) == ("rate_limit_exceeded", "rate_limit_error")
        assert 1 <= int(caught.value.response.headers["Retry-After"]) <= 30
        assert caught.value.response.headers["x-ratelimit-remaining-requests"] == "0"
        assert (await complete(stack, other)).headers["x-ratelimit-remaining-requests"] == "1"


async def test_requests_that_run_nothing_count_among_them(tmp_path: Path) -> None:
    key = new_key()
    make_key(tmp_path, "a", key, requests_per_minute=3)
    message = {"model": BASE, "messages": [{"role": "user", "content": "fox"}]}
    asked: list[tuple[str, dict[str, Any]]] = [
        ("/tokenize", {"model": BASE, "prompt": "fox"}),
        ("/detokenize", {"model": BASE, "tokens": encode("fox")}),
        ("/v1/messages/count_tokens", {**message, "model": CHAT}),
    ]
    async with open_stack(tmp_path) as stack, aiohttp.ClientSession(stack.url, headers={"x-api-key": key}) as http:
        for num_before, (path, body) in enumerate(asked):
            async with http.post(path, json=body) as response:
                assert response.status == 200
                assert response.headers["x-ratelimit-remaining-requests"] == str(2 - num_before)
        for path, body in asked:
            async with http.post(path, json=body) as response:
                assert (response.status, "Retry-After" in response.headers) == (429, True)


async def test_tokens_per_minute_are_reserved_and_what_is_not_used_comes_back(tmp_path: Path) -> None:
    key = new_key()
    make_key(tmp_path, "a", key, tokens_per_minute=100)
    async with open_stack(tmp_path) as stack:
        num_used = len(stack.says(" dog"))
        answer = await complete(stack, key, max_tokens=90)
        num_used += answer.parse().usage.prompt_tokens
        remaining = int(answer.headers["x-ratelimit-remaining-tokens"])
        assert 0 <= remaining - (100 - num_used) < 10  # some are refilled meanwhile
        with pytest.raises(openai.RateLimitError, match="tokens per minute"):
            await complete(stack, key, max_tokens=100)
        assert (await complete(stack, key, max_tokens=50)).status_code == 200


async def test_sequences_in_flight(tmp_path: Path) -> None:
    key = new_key()
    make_key(tmp_path, "a", key, concurrency=2)
    async with open_stack(tmp_path) as stack, client_of(stack, key) as client:
        asking = [asyncio.create_task(client.completions.create(model=BASE, prompt="fox")) for _ in range(2)]
        await stack.worker.wait_for(Submit, 2)  # which says nothing
        with pytest.raises(openai.RateLimitError, match="2 of at most 2 sequences"):
            await complete(stack, key)
        with pytest.raises(openai.BadRequestError, match="3 sequences"):
            await client.completions.create(model=BASE, prompt=["one", "two", "three"])
        asking[0].cancel()
        stack.says(" dog")
        async with asyncio.timeout(CHANGE_TIMEOUT_S):
            while not await gets_in(client):
                pass
        asking[1].cancel()
        await asyncio.wait(asking)


async def gets_in(client: AsyncOpenAI) -> bool:
    try:
        await client.completions.create(model=BASE, prompt="fox")
    except openai.RateLimitError:
        return False
    return True


# --- what workers hear --------------------------------------------------------------------------


async def test_the_tenant_travels_and_salts_what_is_kept_of_its_prompts(stack: Stack) -> None:
    for key in (UNLIMITED, UNLIMITED, ONE_MODEL):
        await complete(stack, key)
    first, second, other = await stack.worker.wait_for(Submit, 3)
    assert [submit.tenant for submit in (first, second, other)] == ["key-unlimited", "key-unlimited", "key-one-model"]
    assert first.cache_salt == second.cache_salt != other.cache_salt != ""
    assert UNLIMITED not in repr(first) and hash_of(UNLIMITED)[:12] not in repr(first)


async def test_nobody_is_more_urgent_than_the_key_allows(stack: Stack) -> None:
    for asked in (None, -7, 9):
        await complete(stack, ONE_MODEL, extra_body={"priority": asked})
    assert [submit.priority for submit in await stack.worker.wait_for(Submit, 3)] == [2, 2, 9]


async def test_without_keys_there_are_two_tenants_one_of_each_front(tmp_path: Path) -> None:
    async with open_stack(tmp_path) as stack:
        stack.says(" dog")
        await complete(stack, "none")
        async with KottosClient(BusConfig(), bus=stack.broker.connect("client")) as client:
            assert [piece.text async for piece in client.generate(BASE, text="fox")]
        submits = await stack.worker.wait_for(Submit, 2)
        assert [submit.tenant for submit in submits] == [LOCAL.id, BUS.id]
        assert submits[0].cache_salt != submits[1].cache_salt
