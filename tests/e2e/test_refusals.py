"""What the real stack refuses, in whose words, and that it goes on serving."""

from typing import Any

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI

from benchmarks.served import Served
from tests.e2e.driving import BASE_MODEL, CHAT_MODEL, complete, complete_streaming

ROUTES = ("completions", "chat/completions")


async def test_an_unknown_model(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="gpt-99") as caught:
        await client.completions.create(model="gpt-99", prompt="x")
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("gpt-99")


async def test_a_chat_with_a_base_model_names_the_other_route(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="/v1/completions"):
        await client.chat.completions.create(model=BASE_MODEL, messages=[{"role": "user", "content": "Hello"}])


async def test_a_prompt_that_exceeds_the_context(client: AsyncOpenAI) -> None:
    for prompt in ([5] * 8192, "word " * 20_000):
        with pytest.raises(openai.BadRequestError, match="maximum context length is 8192 tokens") as caught:
            await client.completions.create(model=CHAT_MODEL, prompt=prompt)
        assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("prompt", ""),
        ("prompt", []),
        ("prompt", {"text": "x"}),
        ("prompt", [10**9]),
        ("max_tokens", "many"),
        ("max_tokens", -1),
        ("max_tokens", 2**80),
        ("temperature", 1e308),
        ("top_p", -0.5),
        ("seed", 2**64),
        ("stop", ["x"] * 1000),
        ("stop", [""]),
        ("model", 7),
        ("stream", "yes"),
    ],
)
async def test_a_bad_value_is_the_clients_fault_and_named(client: AsyncOpenAI, param: str, value: Any) -> None:
    body: dict[str, Any] = {"model": CHAT_MODEL, "prompt": "x"} | {param: value}
    with pytest.raises(openai.BadRequestError) as caught:
        await client.post("/completions", body=body, cast_to=object)
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"


@pytest.mark.parametrize("route", ROUTES)
async def test_bad_bodies_disturb_nobody(stack: Served, client: AsyncOpenAI, route: str) -> None:
    bodies = [b"", b"{", b"null", b"[]", b"\xff\xfe", b'{"model": NaN}', b'{"a":' * 5000, b"[" * 100_000]
    async with aiohttp.ClientSession() as session:
        for body in bodies:
            async with session.post(f"{stack.url}/v1/{route}", data=body) as response:
                assert response.status == 400, body[:20]
                assert (await response.json())["error"]["type"] == "invalid_request_error"
        async with session.post(f"{stack.url}/v1/{route}", data=b" " * (5 << 20)) as response:
            assert response.status == 413
    assert (await complete(client, CHAT_MODEL, "One, two,", max_tokens=2)).num_output_tokens == 2


async def test_a_running_stream_outlives_others_mistakes(client: AsyncOpenAI) -> None:
    alone = await complete_streaming(client, CHAT_MODEL, "One, two,", max_tokens=12)
    stream = await client.completions.create(
        model=CHAT_MODEL, prompt="One, two,", max_tokens=12, temperature=0, stream=True
    )
    texts = []
    async for chunk in stream:
        texts.append(chunk.choices[0].text)
        with pytest.raises(openai.BadRequestError):
            await client.completions.create(model=CHAT_MODEL, prompt=[-1])
    assert "".join(texts) == alone.text


async def test_alive_and_ready(stack: Served) -> None:
    async with aiohttp.ClientSession() as session:
        for path in ("health", "ready"):
            async with session.get(f"{stack.url}/{path}") as response:
                assert response.status == 200
        async with session.get(f"{stack.url}/v1/nothing") as response:
            assert response.status == 404
            assert (await response.json())["error"]["message"]
