"""/tokenize, /detokenize and /version."""

import importlib.metadata
from typing import Any

import aiohttp
import pytest

from tests.integration.gateway_harness import BASE, CHAT, CONTEXT_LENGTH, encode
from tests.unit.gateway.tiny_models import BOS, BOS_ID, byte_level

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def post(http: aiohttp.ClientSession, route: str, status: int = 200, **fields: object) -> Any:
    async with http.post(route, json=fields) as response:
        assert response.status == status, await response.text()
        return await response.json()


async def test_a_prompt_gets_special_tokens_unless_told_otherwise(http: aiohttp.ClientSession) -> None:
    plain = encode("lazy dog")
    body = await post(http, "/tokenize", model=BASE, prompt="lazy dog")
    assert body == {
        "count": len(plain) + 1,
        "max_model_len": CONTEXT_LENGTH,
        "tokens": [BOS_ID, *plain],
        "token_strs": None,
    }
    bare = await post(http, "/tokenize", model=BASE, prompt="lazy dog", add_special_tokens=False)
    assert bare["tokens"] == plain


async def test_messages_are_rendered_as_a_chat_would(http: aiohttp.ClientSession) -> None:
    body = await post(http, "/tokenize", model=CHAT, messages=[{"role": "user", "content": "hello"}])
    assert body["tokens"] == [BOS_ID, *encode("user: hello\nassistant:")]


async def test_token_strs_are_the_tokenizers_own(http: aiohttp.ClientSession) -> None:
    body = await post(http, "/tokenize", model=BASE, prompt="a dog", return_token_strs=True)
    assert body["token_strs"] == byte_level().encode("a dog").tokens
    assert body["token_strs"][0] == BOS


async def test_more_than_the_context_is_counted_all_the_same(http: aiohttp.ClientSession) -> None:
    body = await post(http, "/tokenize", model=BASE, prompt="qqqq " * 100)
    assert body["count"] == len(body["tokens"]) > CONTEXT_LENGTH


async def test_detokenize_is_the_way_back(http: aiohttp.ClientSession) -> None:
    text = "Grüße 🎉 done"
    tokens = (await post(http, "/tokenize", model=BASE, prompt=text))["tokens"]
    assert await post(http, "/detokenize", model=BASE, tokens=tokens) == {"prompt": BOS + text}
    assert await post(http, "/detokenize", model=BASE, tokens=[]) == {"prompt": ""}


@pytest.mark.parametrize(
    ("route", "fields", "status", "param"),
    [
        ("/tokenize", {"model": BASE}, 400, "prompt"),
        ("/tokenize", {"model": CHAT, "prompt": "x", "messages": [{"role": "user", "content": "x"}]}, 400, "prompt"),
        ("/tokenize", {"model": CHAT, "messages": []}, 400, "messages"),
        ("/tokenize", {"model": BASE, "messages": [{"role": "user", "content": "x"}]}, 400, "messages"),
        ("/tokenize", {"model": "gpt-99", "prompt": "x"}, 404, "model"),
        ("/tokenize", {"prompt": "x"}, 400, "model"),
        ("/detokenize", {"model": BASE, "tokens": [0, 100_000]}, 400, "tokens"),
        ("/detokenize", {"model": BASE, "tokens": [-1]}, 400, "tokens"),
        ("/detokenize", {"model": BASE, "tokens": [2**63]}, 400, "tokens"),
        ("/detokenize", {"model": BASE, "tokens": "x"}, 400, "tokens"),
        ("/detokenize", {"model": BASE}, 400, "tokens"),
    ],
)
async def test_refusals_name_the_field(
    http: aiohttp.ClientSession, route: str, fields: dict[str, object], status: int, param: str
) -> None:
    body = await post(http, route, status, **fields)
    assert body["error"]["param"] == param


async def test_the_version(http: aiohttp.ClientSession) -> None:
    async with http.get("/version") as response:
        assert await response.json() == {"version": importlib.metadata.version("kottos")}
