"""10,000 damaged bodies over all routes for users that take one: each is answered or refused, and nothing fails."""

import asyncio
import json
import random
from copy import deepcopy
from typing import Any

import aiohttp
import msgspec
import pytest

from gateway.http.operations import ADMIN, OPERATIONS
from tests.integration.gateway_harness import BASE, CHAT, Stack

pytestmark = pytest.mark.asyncio(loop_scope="module")
NUM_BODIES = 10_000
NUM_AT_ONCE = 32
HELLO = [{"role": "user", "content": "hello"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
FUNCTION = {"name": "look", "description": "looks", "parameters": SCHEMA}
SEEDS: dict[str, list[dict[str, Any]]] = {
    "/v1/chat/completions": [
        {"model": CHAT, "messages": HELLO, "max_tokens": 3, "stream": True, "stream_options": {"include_usage": True}},
        {"model": CHAT, "messages": HELLO, "n": 2, "logprobs": True, "top_logprobs": 2, "stop": ["a"], "seed": 5},
        {"model": CHAT, "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}], "temperature": 0.5},
        {"model": CHAT, "messages": HELLO, "response_format": {"type": "json_object"}, "logit_bias": {"5": 1.0}},
        {
            "model": CHAT,
            "messages": HELLO,
            "tools": [{"type": "function", "function": FUNCTION}],
            "tool_choice": "auto",
        },
    ],
    "/v1/completions": [
        {"model": BASE, "prompt": ["x", [5, 6]], "max_tokens": 3, "echo": True, "logprobs": 1, "ttft_s": 1.5},
        {"model": BASE, "prompt": [5, 6], "stream": True, "min_tokens": 1, "stop": "a", "priority": 3, "top_k": 5},
    ],
    "/v1/responses": [
        {"model": CHAT, "input": "hello", "max_output_tokens": 3, "stream": True, "metadata": {"a": "b"}},
        {
            "model": CHAT,
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "x"}]},
                {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c", "output": "x"},
            ],
            "tools": [{"type": "function", **FUNCTION}],
            "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}},
        },
    ],
    "/v1/messages": [
        {"model": CHAT, "messages": HELLO, "max_tokens": 3, "stream": True, "system": "be kind", "top_p": 0.9},
        {
            "model": CHAT,
            "max_tokens": 3,
            "messages": [
                *HELLO,
                {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "look", "input": {"a": 1}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "x"}]},
            ],
            "tools": [{"name": "look", "input_schema": SCHEMA}],
            "tool_choice": {"type": "any"},
            "stop_sequences": ["a"],
        },
    ],
    "/v1/messages/count_tokens": [{"model": CHAT, "messages": HELLO, "system": [{"type": "text", "text": "x"}]}],
    "/v1/embeddings": [{"model": BASE, "input": ["x", "y"]}],
    "/tokenize": [
        {"model": BASE, "prompt": "x", "add_special_tokens": False, "return_token_strs": True},
        {"model": CHAT, "messages": HELLO, "chat_template_kwargs": {"a": 1}},
    ],
    "/detokenize": [{"model": BASE, "tokens": [5, 6, 7]}],
}
ODD_VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**40, 0.5, -0.0, 1e308, "", "x", "\0", "🎉", "x" * 5000,
    [], [[]], {}, [None], [{}], {"": None}, {"type": "text"}, {"type": []}, ["x"] * 100, [0] * 1000, BASE, CHAT,
]  # fmt: skip
ODD_BYTES = [b"\xff", b"\\ud800", b"\0", b"NaN", b"1e999", b"-", b'"', b"{", b"[" * 3000, b"]", b",", b":", b"9" * 400]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container with every key in it, at any depth."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


def damaged(body: dict[str, Any], rng: random.Random) -> bytes:
    """Up to three times: values of other types, keys of other fields, what was cut, doubled or written over."""
    value = json.loads(json.dumps(body))
    for _ in range(rng.randint(0, 2)):
        if not (found := places(value)):
            break
        container, key = rng.choice(found)
        match rng.randrange(4):
            case 0 | 1:
                container[key] = deepcopy(rng.choice(ODD_VALUES))
            case 2:
                del container[key]
            case 3:
                container[key] = [deepcopy(container[key]) for _ in range(rng.randint(1, 3))]
    data = json.dumps(value).encode()
    if rng.random() < 0.4:
        at = rng.randrange(len(data) + 1)
        data = data[:at] + rng.choice([b"", *ODD_BYTES]) + data[at + rng.randint(0, 8) :]
    return data


async def test_ten_thousand_damaged_bodies(stack: Stack) -> None:
    assert set(SEEDS) == {operation.path for operation in OPERATIONS if operation.request and operation.tag != ADMIN}
    stack.says("ok")
    rng = random.Random(5)
    every = [(path, body) for path, bodies in SEEDS.items() for body in bodies]
    numbers = iter(range(NUM_BODIES))  # of all senders together
    statuses: dict[int, int] = {}
    failures: list[tuple[int, str, bytes]] = []

    async def send(http: aiohttp.ClientSession) -> None:
        for number in numbers:
            path, body = every[number % len(every)]
            data = damaged(body, rng)
            async with http.post(path, data=data, headers={"Content-Type": "application/json"}) as response:
                answer = await response.read()
            statuses[response.status] = statuses.get(response.status, 0) + 1
            if response.status in (500, 502, 504) or (response.status == 200 and b"failed on this request" in answer):
                failures.append((response.status, path, data))

    async with aiohttp.ClientSession(stack.url) as http:
        await asyncio.gather(*(send(http) for _ in range(NUM_AT_ONCE)))
        assert failures[:5] == []
        assert sum(statuses.values()) == NUM_BODIES
        assert statuses[200] > 500 and statuses[400] > 5000, statuses  # damage that hurts, and damage that doesn't
        async with http.post("/v1/completions", data=msgspec.json.encode({"model": BASE, "prompt": "x"})) as response:
            assert (await response.json())["choices"][0]["text"] == "ok"
    assert stack.gateway.admission.num_open == 0
