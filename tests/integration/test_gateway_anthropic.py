"""The gateway as the anthropic client sees it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import pytest
import pytest_asyncio

from shared.errors import ErrorCode
from shared.messages import Cancel, Ended, Refused, Submit
from shared.slo import Slo
from tests.integration.gateway_harness import (
    ASLEEP,
    BASE,
    CHAT,
    CONTEXT_LENGTH,
    Stack,
    encode,
    make_key,
    open_stack,
)
from tests.unit.gateway.tiny_models import BOS_ID

pytestmark = pytest.mark.asyncio(loop_scope="module")
Client = Any  # AsyncAnthropic, whose overloads know no plain dicts
HELLO = [{"role": "user", "content": "hello"}]
MAX_BODY_BYTES = 100_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("gateway")
    async with open_stack(folder, max_requests=8, keepalive_s=0.05, max_body_bytes=MAX_BODY_BYTES) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def client(stack: Stack) -> AsyncIterator[Client]:
    async with anthropic.AsyncAnthropic(base_url=stack.url, api_key="none", max_retries=0, timeout=20) as opened:
        yield opened


def prompt(text: str) -> list[int]:
    return [BOS_ID, *encode(text)]


# --- answers ------------------------------------------------------------------------------------


async def test_a_message(stack: Stack, client: Client) -> None:
    token_ids = stack.says("Grüße 🎉 done")
    stack.worker.num_cached_tokens = 3
    answer = await client.messages.create(model=CHAT, max_tokens=40, messages=HELLO)
    assert [(block.type, block.text) for block in answer.content] == [("text", "Grüße 🎉 done")]
    assert (answer.type, answer.role, answer.model) == ("message", "assistant", CHAT)
    assert (answer.stop_reason, answer.stop_sequence) == ("end_turn", None)
    [submit] = await stack.worker.wait_for(Submit)
    assert list(submit.prompt) == prompt("user: hello\nassistant:")
    assert submit.sampling.max_tokens == 40
    assert answer.usage.input_tokens + answer.usage.cache_read_input_tokens == len(submit.prompt)
    assert answer.usage.cache_read_input_tokens == 3
    assert answer.usage.output_tokens == len(token_ids)
    assert answer._request_id


async def test_a_streamed_message_in_the_order_of_events(stack: Stack, client: Client) -> None:
    token_ids = stack.says("Grüße 🎉 done")
    events = [
        event async for event in await client.messages.create(model=CHAT, max_tokens=40, messages=HELLO, stream=True)
    ]
    kinds = [event.type for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) == {"content_block_delta"} and len(kinds) > 8  # as it comes
    assert "".join(event.delta.text for event in events[2:-3]) == "Grüße 🎉 done"
    assert events[0].message.content == [] and events[0].message.stop_reason is None
    assert events[0].message.usage.input_tokens == len(prompt("user: hello\nassistant:"))
    assert events[-2].delta.stop_reason == "end_turn"
    assert events[-2].usage.output_tokens == len(token_ids)


async def test_the_sdk_puts_a_stream_together(stack: Stack, client: Client) -> None:
    stack.says("The quick brown fox")
    async with client.messages.stream(model=CHAT, max_tokens=40, messages=HELLO) as stream:
        assert "".join([text async for text in stream.text_stream]) == "The quick brown fox"
        message = await stream.get_final_message()
    assert message.content[0].text == "The quick brown fox"
    assert message.stop_reason == "end_turn"


async def test_an_empty_answer_has_no_block(stack: Stack, client: Client) -> None:
    stack.says("")
    answer = await client.messages.create(model=CHAT, max_tokens=40, messages=HELLO)
    assert (answer.content, answer.stop_reason) == ([], "end_turn")
    async with client.messages.stream(model=CHAT, max_tokens=40, messages=HELLO) as stream:
        assert (await stream.get_final_message()).content == []


@pytest.mark.parametrize("is_stream", [False, True])
async def test_it_says_which_stop_sequence_ended_it(stack: Stack, client: Client, is_stream: bool) -> None:
    stack.says("The quick brown fox jumps", ends=False)
    asked = {"model": CHAT, "max_tokens": 40, "messages": HELLO, "stop_sequences": ["zzz", "own fox"]}
    if is_stream:
        async with client.messages.stream(**asked) as stream:
            answer = await stream.get_final_message()
    else:
        answer = await client.messages.create(**asked)
    assert answer.content[0].text == "The quick br"
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "own fox")


async def test_max_tokens_end_it(stack: Stack, client: Client) -> None:
    stack.says("The quick brown fox")
    answer = await client.messages.create(model=CHAT, max_tokens=2, messages=HELLO)
    assert (answer.stop_reason, answer.usage.output_tokens) == ("max_tokens", 2)


async def test_system_and_turns_become_a_chat_whose_roles_alternate(stack: Stack, client: Client) -> None:
    stack.says("ok")
    blocks = [{"type": "text", "text": "one", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "two"}]
    turns = [
        {"role": "user", "content": blocks},
        {"role": "user", "content": "three"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "four"},
            ],
        },
        {"role": "user", "content": "five"},
    ]
    for system in ("be kind", [{"type": "text", "text": "be kind"}]):
        await client.messages.create(model=CHAT, max_tokens=4, messages=turns, system=system)
    text = "system: be kind\nuser: one\ntwo\nthree\nassistant: four\nuser: five\nassistant:"
    assert [list(submit.prompt) for submit in await stack.worker.wait_for(Submit, 2)] == [prompt(text)] * 2


async def test_parameters_reach_the_worker(stack: Stack, client: Client) -> None:
    stack.says("ok")
    more = {"temperature": 0.5, "top_p": 0.9, "top_k": 7, "seed": 5, "ttft_s": 1.5, "tbt_s": 0.5, "priority": -3}
    await client.messages.create(
        model=CHAT,
        max_tokens=9,
        messages=HELLO,
        metadata={"user_id": "me"},
        service_tier="auto",
        extra_body=more,
    )
    [submit] = await stack.worker.wait_for(Submit)
    sampling = submit.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.seed) == (0.5, 0.9, 7, 5)
    assert (submit.slo, submit.priority) == (Slo(1.5, 0.5), -3)


async def test_tokens_are_counted_as_they_will_be_used(stack: Stack, client: Client) -> None:
    stack.says("ok")
    asked = {"model": CHAT, "messages": HELLO, "system": "be kind"}
    counted = await client.messages.count_tokens(**asked)
    answer = await client.messages.create(**asked, max_tokens=4)
    assert counted.input_tokens == answer.usage.input_tokens
    long = [{"role": "user", "content": "qqqq " * 100}]
    assert (await client.messages.count_tokens(model=CHAT, messages=long)).input_tokens > CONTEXT_LENGTH


async def test_pings_keep_a_waiting_stream_alive(stack: Stack) -> None:
    stack.worker.reset()
    body = {"model": CHAT, "max_tokens": 9, "messages": HELLO, "stream": True}
    async with aiohttp.ClientSession(stack.url) as http, http.post("/v1/messages", json=body) as response:
        assert response.headers["request-id"] == response.headers["X-Request-Id"]
        lines = [await response.content.readline() for _ in range(9)]
        assert [line for line in lines if line.startswith(b"event")] == [
            b"event: message_start\n",
            b"event: ping\n",
            b"event: ping\n",
        ]
        [submit] = await stack.worker.wait_for(Submit)
        await stack.worker.say(submit.request_id, *encode("fox"), ended=Ended("stop"))
        assert b"message_stop" in await response.read()


async def test_who_leaves_cancels(stack: Stack, client: Client) -> None:
    stack.worker.reset()
    asking = asyncio.create_task(client.messages.create(model=CHAT, max_tokens=9, messages=HELLO))
    [submit] = await stack.worker.wait_for(Submit)
    asking.cancel()
    await asyncio.wait([asking])
    [cancel] = await stack.worker.wait_for(Cancel)
    assert cancel.request_id == submit.request_id


# --- refusals -----------------------------------------------------------------------------------


def error_of(error: anthropic.APIStatusError) -> Any:
    """Its body."""
    return error.body


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"messages": []}, "messages: at least one"),
        ({"messages": [{"role": "angry", "content": "x"}]}, r"messages\[0\].role: "),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, r"messages\[0\].content\[0\].type: "),
        ({"messages": [{"role": "user", "content": 5}]}, r"messages\[0\].content: "),
        ({"max_tokens": 0}, "max_tokens: "),
        ({"max_tokens": 500}, "maximum context length"),
        ({"extra_body": {"temperature": 3.0}}, "temperature: "),
        ({"stop_sequences": [""]}, "stop_sequences: "),
        ({"extra_body": {"top_k": -5}}, "top_k: "),
        ({"model": BASE}, "no chat template"),
    ],
)
async def test_bad_requests(client: Client, asked: dict[str, Any], match: str) -> None:
    with pytest.raises(anthropic.BadRequestError, match=match) as caught:
        await client.messages.create(**{"model": CHAT, "max_tokens": 9, "messages": HELLO} | asked)
    assert error_of(caught.value)["error"]["type"] == "invalid_request_error"
    assert error_of(caught.value)["request_id"] == caught.value.request_id


async def test_max_tokens_is_required(stack: Stack) -> None:
    asked = {"model": CHAT, "messages": HELLO}
    async with aiohttp.ClientSession(stack.url) as http, http.post("/v1/messages", json=asked) as response:
        body = await response.json()
    assert response.status == 400
    assert body["type"] == "error" and body["error"]["message"].startswith("max_tokens: ")


@pytest.mark.parametrize("route", ["messages", "messages/count_tokens"])
async def test_an_unknown_model(stack: Stack, client: Client, route: str) -> None:
    with pytest.raises(anthropic.NotFoundError, match="gpt-99") as caught:
        if route == "messages":
            await client.messages.create(model="gpt-99", max_tokens=9, messages=HELLO)
        else:
            await client.messages.count_tokens(model="gpt-99", messages=HELLO)
    assert error_of(caught.value)["error"]["type"] == "not_found_error"


async def test_a_body_over_the_limit(client: Client) -> None:
    long = [{"role": "user", "content": "x" * MAX_BODY_BYTES}]
    with pytest.raises(anthropic.APIStatusError) as caught:
        await client.messages.create(model=CHAT, max_tokens=9, messages=long)
    assert (caught.value.status_code, error_of(caught.value)["error"]["type"]) == (413, "request_too_large")


@pytest.mark.parametrize("stream", [False, True])
async def test_full_queues_are_overload_with_a_time_to_come_again(stack: Stack, client: Client, stream: bool) -> None:
    stack.worker.reset(lambda submit: Refused(submit.request_id, 0, ErrorCode.OVERLOADED, "all queues are full", 3.0))
    with pytest.raises(anthropic.InternalServerError, match="all queues are full") as caught:
        await client.messages.create(model=CHAT, max_tokens=9, messages=HELLO, stream=stream)
    assert (caught.value.status_code, error_of(caught.value)["error"]["type"]) == (529, "overloaded_error")
    assert caught.value.response.headers["Retry-After"] == "3"


async def test_a_model_that_is_still_loading(client: Client) -> None:
    with pytest.raises(anthropic.InternalServerError, match="loading") as caught:
        await client.messages.create(model=ASLEEP, max_tokens=9, messages=HELLO)
    assert (caught.value.status_code, error_of(caught.value)["error"]["type"]) == (503, "api_error")


async def test_an_error_in_the_middle_of_a_stream(stack: Stack, client: Client) -> None:
    stack.worker.reset()
    asking = asyncio.create_task(client.messages.create(model=CHAT, max_tokens=9, messages=HELLO, stream=True))
    [submit] = await stack.worker.wait_for(Submit)
    failed = Ended("error", ErrorCode.INTERNAL, "the step failed")
    await stack.worker.say(submit.request_id, *encode("quick"), ended=failed)
    texts = []
    with pytest.raises(anthropic.APIStatusError, match="the step failed"):
        async for event in await asking:
            if event.type == "content_block_delta":
                texts.append(event.delta.text)
    assert "".join(texts) == "quick"


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [("GET", "/v1/messages", 405, "invalid_request_error"), ("POST", "/v1/messages/nowhere", 404, "not_found_error")],
)
async def test_what_the_server_refuses_by_itself_has_the_same_body(
    stack: Stack, method: str, path: str, status: int, kind: str
) -> None:
    async with aiohttp.ClientSession(stack.url) as http, http.request(method, path) as response:
        body = await response.json()
    assert (response.status, body["type"], body["error"]["type"]) == (status, "error", kind)


async def test_keys_let_in_by_either_header_and_others_get_its_errors(tmp_path: Path) -> None:
    key = "a-key-that-is-long-enough-for-this"
    make_key(tmp_path, "mine", key, models=(BASE,))
    asked: Any = {"model": CHAT, "max_tokens": 9, "messages": HELLO}
    async with (
        open_stack(tmp_path) as stack,
        anthropic.AsyncAnthropic(base_url=stack.url, api_key="another-key", max_retries=0) as client,
    ):
        with pytest.raises(anthropic.AuthenticationError) as unknown:
            await client.messages.create(**asked)
        assert error_of(unknown.value)["error"]["type"] == "authentication_error"
        by_token: Client = anthropic.AsyncAnthropic(base_url=stack.url, auth_token=key, max_retries=0)
        by_key: Client = client.with_options(api_key=key)
        for own in (by_key, by_token):
            with pytest.raises(anthropic.PermissionDeniedError) as denied:
                await own.messages.create(**asked)
            assert error_of(denied.value)["error"]["type"] == "permission_error"
            with pytest.raises(anthropic.PermissionDeniedError):
                await own.messages.count_tokens(model=CHAT, messages=HELLO)
