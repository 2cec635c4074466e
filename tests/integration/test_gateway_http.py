"""The gateway byte by byte: refusals of what no SDK sends, headers, events, status routes."""

import asyncio
from collections.abc import Callable

import aiohttp
import msgspec
import pytest

from shared import subjects
from shared.errors import ErrorCode
from shared.messages import Cancel, Ended, RequestFinished, Submit
from shared.slo import Slo
from tests.integration.gateway_harness import ASLEEP, BASE, CHAT, CONTEXT_LENGTH, Stack, encode
from tests.recorder import Recorder

pytestmark = pytest.mark.asyncio(loop_scope="module")
MAX_BODY_BYTES = 100_000
GATEWAY = {"max_body_bytes": MAX_BODY_BYTES, "keepalive_s": 0.05}


class ErrorDetail(msgspec.Struct, forbid_unknown_fields=True):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(msgspec.Struct, forbid_unknown_fields=True):
    error: ErrorDetail


async def error_of(response: aiohttp.ClientResponse) -> ErrorDetail:
    """OpenAI's error body, all of it and nothing else."""
    detail = msgspec.json.decode(await response.read(), type=ErrorBody).error
    assert response.content_type == "application/json"
    assert 0 < len(detail.message) <= 1000
    return detail


def completion(**fields: object) -> bytes:
    return msgspec.json.encode({"model": BASE, "prompt": "x"} | fields)


def chat(**fields: object) -> bytes:
    return msgspec.json.encode({"model": CHAT, "messages": [{"role": "user", "content": "x"}]} | fields)


def text(prompt: object) -> bytes:
    return completion(prompt=prompt)


BAD_COMPLETIONS: dict[str, tuple[bytes, str | None]] = {  # body, param
    "no body": (b"", None),
    "not JSON": (b"{'model': 1}", None),
    "cut off": (b'{"model": "tiny-base", "prompt": "', None),
    "not UTF-8": (b'{"model": "tiny-base", "prompt": "\xff\xfe"}', None),
    "half a surrogate pair": (b'{"model": "tiny-base", "prompt": "\\ud800"}', None),
    "an array": (b"[]", None),
    "nested too deeply": (b'{"model": "tiny-base", "prompt": "x", "extra": ' + b"[" * 20_000 + b"}", None),
    "NaN": (b'{"model": "tiny-base", "prompt": "x", "temperature": NaN}', None),
    "infinity": (b'{"model": "tiny-base", "prompt": "x", "temperature": 1e999}', "temperature"),
    "no prompt": (msgspec.json.encode({"model": BASE}), "prompt"),
    "null prompt": (text(None), "prompt"),
    "number prompt": (text(5), "prompt"),
    "empty text": (text(""), "prompt"),
    "empty list": (text([]), "prompt"),
    "empty text in a list": (text(["x", ""]), "prompt"),
    "empty ids in a list": (text([[]]), "prompt"),
    "mixed list": (text([1, "x"]), "prompt"),
    "ids and an id": (text([[1], 2]), "prompt"),
    "too many prompts": (text(["x"] * 65), "prompt"),
    "id outside the vocabulary": (text([5, 100_000]), "prompt"),
    "negative id": (text([-1]), "prompt"),
    "huge id": (b'{"model": "tiny-base", "prompt": [%s]}' % (b"9" * 40), "prompt"),
    "text temperature": (completion(temperature="hot"), "temperature"),
    "temperature": (completion(temperature=3), "temperature"),
    "top_p": (completion(top_p=0), "top_p"),
    "top_k": (completion(top_k=-2), "top_k"),
    "max_tokens": (completion(max_tokens=0), "max_tokens"),
    "fraction of a token": (completion(max_tokens=1.5), "max_tokens"),
    "absurd max_tokens": (completion(max_tokens=10**18), "max_tokens"),
    "thousand-digit seed": (b'{"model": "tiny-base", "prompt": "x", "seed": %s}' % (b"9" * 1000), "seed"),
    "seed": (completion(seed=2**63), "seed"),
    "empty stop": (completion(stop=""), "stop"),
    "too many stops": (completion(stop=["x"] * 17), "stop"),
    "wrong stop": (completion(stop=5), "stop"),
    "ttft_s": (completion(ttft_s=0), "ttft_s"),
    "text tbt_s": (completion(tbt_s="0.1"), "tbt_s"),
    "tbt_s": (completion(tbt_s=1e9), "tbt_s"),
    "priority": (completion(priority=1001), "priority"),
    "fraction of a priority": (completion(priority=0.5), "priority"),
    "n": (completion(n=0), "n"),
    "text n": (completion(n="two"), "n"),
    "best_of": (completion(best_of=2), "best_of"),
    "logprobs": (completion(logprobs=21), "logprobs"),
    "true logprobs": (completion(logprobs=True), "logprobs"),
    "echo": (completion(echo=1), "echo"),
    "suffix": (completion(suffix="s"), "suffix"),
    "logit_bias": (completion(logit_bias={"5": 101}), "logit_bias"),
    "text logit_bias": (completion(logit_bias={"fox": 1}), "logit_bias"),
    "number user": (completion(user=5), "user"),
    "stream_options without stream": (completion(stream_options={"include_usage": True}), "stream_options"),
}
BAD_CHATS: dict[str, tuple[bytes, str | None]] = {
    "no messages": (msgspec.json.encode({"model": CHAT}), "messages"),
    "empty messages": (chat(messages=[]), "messages"),
    "a text": (chat(messages="hi"), "messages"),
    "no role": (chat(messages=[{"content": "x"}]), "messages[0].role"),
    "number content": (chat(messages=[{"role": "user", "content": 5}]), "messages[0].content"),
    "image": (
        chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]),
        "messages[0].content",
    ),
    "priority": (chat(priority=-5000), "priority"),
    "tools": (chat(tools=[{"type": "function"}]), "tools[0].function"),
    "a tool's type": (chat(tools=[{"type": "custom", "custom": {"name": "x"}}]), "tools[0].type"),
    "functions": (chat(functions=[{"name": "f"}]), "functions"),
    "number logprobs": (chat(logprobs=3), "logprobs"),
    "top_logprobs alone": (chat(top_logprobs=3), "top_logprobs"),
    "max_completion_tokens": (chat(max_completion_tokens=-1), "max_tokens"),
}


# --- service levels -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("route", "body", "of_model", "priority"),
    [("completions", completion, Slo(10.0, 0.1), 0), ("chat/completions", chat, Slo(4.0, 0.1), 2)],
)
async def test_a_request_goes_with_its_models_level_but_for_what_it_asks_for(
    stack: Stack, http: aiohttp.ClientSession, route: str, body: Callable[..., bytes], of_model: Slo, priority: int
) -> None:
    stack.says("ok")
    headers = {"X-SLO-TTFT-ms": "1500", "X-SLO-TPOT-ms": "70"}
    for asked, given in [({}, {}), ({}, headers), ({"ttft_s": 2, "priority": -7}, headers)]:
        async with http.post(f"/v1/{route}", data=body(**asked), headers=given) as response:
            assert response.status == 200
    plain, by_header, by_both = await stack.worker.wait_for(Submit, 3)
    assert (plain.slo, plain.priority) == (of_model, priority)
    assert (by_header.slo, by_header.priority) == (Slo(1.5, 0.07), priority)
    assert (by_both.slo, by_both.priority) == (Slo(2.0, 0.07), -7)


@pytest.mark.parametrize("name", ["x-slo-ttft-ms", "x-slo-tpot-ms"])
async def test_a_bad_header_is_a_400_that_names_it(http: aiohttp.ClientSession, name: str) -> None:
    async with http.post("/v1/completions", data=completion(), headers={name: "soon"}) as response:
        assert response.status == 400
        assert (await error_of(response)).param == name


async def test_the_next_attempt_has_the_same_deadlines(stack: Stack, http: aiohttp.ClientSession) -> None:
    stack.worker.reset()
    asked = completion(ttft_s=2, tbt_s=0.5, priority=3)
    running = asyncio.create_task(http.post("/v1/completions", data=asked))
    [first] = await stack.worker.wait_for(Submit)
    await stack.worker.say(first.request_id, *encode("fox"))
    await stack.worker.die()
    _, second = await stack.worker.wait_for(Submit, 2)
    assert (second.attempt, second.output) == (1, tuple(encode("fox")))
    assert (second.slo, second.priority) == (first.slo, first.priority) == (Slo(2.0, 0.5), 3)
    assert second.age_s >= first.age_s > 0
    await stack.worker.say(second.request_id, ended=Ended("stop"))
    async with await running as response:
        assert response.status == 200


NEVER_LATE = {"ttft_s": 86_400, "tbt_s": 3_600}
ALWAYS_LATE = {"ttft_s": 1e-6, "tbt_s": 1e-6}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("level", [NEVER_LATE, ALWAYS_LATE])
async def test_each_token_that_is_written_was_on_time_or_late(
    stack: Stack, http: aiohttp.ClientSession, level: dict[str, float], stream: bool
) -> None:
    token_ids = stack.says("The quick brown fox")
    events = Recorder()
    subscription = await stack.worker.bus.subscribe(subjects.EVENT_REQUEST_FINISHED, events)
    async with http.post("/v1/completions", data=completion(stream=stream, max_tokens=50, **level)) as response:
        await response.read()
    [finished] = await events.wait_for(1)
    await subscription.unsubscribe()
    assert isinstance(finished, RequestFinished)
    assert finished.num_due_tokens == finished.num_output_tokens == len(token_ids)
    assert finished.num_on_time_tokens == (len(token_ids) if level is NEVER_LATE else 0)


async def test_a_stream_that_fails_leaves_what_was_overdue_as_late(stack: Stack, http: aiohttp.ClientSession) -> None:
    stack.worker.reset()
    events = Recorder()
    subscription = await stack.worker.bus.subscribe(subjects.EVENT_REQUEST_FINISHED, events)
    asked = completion(stream=True, max_tokens=9, **ALWAYS_LATE)
    running = asyncio.create_task(http.post("/v1/completions", data=asked))
    [submit] = await stack.worker.wait_for(Submit)
    await stack.worker.say(submit.request_id, *encode("fox"))
    async with await running as response:
        await stack.worker.say(submit.request_id, ended=Ended("error", ErrorCode.INTERNAL, "the step failed"))
        assert b"the step failed" in await response.read()
    [finished] = await events.wait_for(1)
    await subscription.unsubscribe()
    assert isinstance(finished, RequestFinished)
    assert (finished.finish_reason, finished.num_output_tokens) == ("error", len(encode("fox")))
    assert (finished.num_on_time_tokens, finished.num_due_tokens) == (0, 9)


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("route", "body", "param"),
    [pytest.param("completions", *bad, id=name) for name, bad in BAD_COMPLETIONS.items()]
    + [pytest.param("chat/completions", *bad, id=f"chat: {name}") for name, bad in BAD_CHATS.items()],
)
async def test_bad_input_is_a_400_that_names_its_field(
    http: aiohttp.ClientSession, route: str, body: bytes, param: str | None
) -> None:
    async with http.post(f"/v1/{route}", data=body) as response:
        detail = await error_of(response)
    assert response.status == 400, detail
    assert (detail.type, detail.param) == ("invalid_request_error", param)


async def test_bad_input_leaves_others_alone(stack: Stack, http: aiohttp.ClientSession) -> None:
    """On one connection, beside a stream that runs."""
    stack.worker.reset()
    running = asyncio.create_task(http.post("/v1/completions", data=completion(stream=True)))
    [submit] = await stack.worker.wait_for(Submit)
    for body, _ in BAD_COMPLETIONS.values():
        async with http.post("/v1/completions", data=body) as refused:
            assert refused.status == 400
    await stack.worker.say(submit.request_id, *encode("fox"), ended=Ended("stop"))
    async with await running as response:
        assert b"fox" in await response.read()


async def test_a_body_over_the_limit(http: aiohttp.ClientSession) -> None:
    async with http.post("/v1/completions", data=completion(prompt="x" * MAX_BODY_BYTES)) as response:
        assert response.status == 413
        assert (await error_of(response)).code == "body_too_large"


@pytest.mark.parametrize("path", ["/v1", "/v1/audio/speech", "/v2/models", "/%00", "/v1/completions/x"])
async def test_an_unknown_route(http: aiohttp.ClientSession, path: str) -> None:
    async with http.get(path) as response:
        assert response.status == 404
        assert (await error_of(response)).type == "invalid_request_error"


async def test_a_wrong_method(http: aiohttp.ClientSession) -> None:
    async with http.get("/v1/completions") as response:
        assert response.status == 405
        assert response.headers["Allow"] == "POST"
        await error_of(response)


async def test_unknown_and_empty_fields_are_accepted(stack: Stack, http: aiohttp.ClientSession) -> None:
    stack.says("ok")
    body = completion(user="me", unknown={"deep": [1]}, n=1, best_of=1, logit_bias={}, echo=False, suffix=None, stop=[])
    async with http.post("/v1/completions", data=body) as response:
        assert response.status == 200
    body = chat(tools=[], tool_choice="none", response_format={"type": "text"}, logprobs=False, stop=None, stream=None)
    async with http.post("/v1/chat/completions", data=body) as response:
        assert response.status == 200


# --- headers and events -------------------------------------------------------------------------


async def test_the_clients_request_id_comes_back_and_a_missing_or_bad_one_is_made(
    stack: Stack, http: aiohttp.ClientSession
) -> None:
    stack.says("ok")
    for stream in (False, True):
        headers = {"X-Request-Id": "mine-1"}
        async with http.post("/v1/completions", data=completion(stream=stream), headers=headers) as response:
            assert response.headers["X-Request-Id"] == "mine-1"
    for headers in ({}, {"X-Request-Id": "x" * 200}):
        async with http.post("/v1/completions", data=b"{}", headers=headers) as response:
            assert response.headers["X-Request-Id"].startswith("req-")


async def test_a_stream_has_the_headers_of_events_and_comments_while_it_waits(
    stack: Stack, http: aiohttp.ClientSession
) -> None:
    stack.worker.reset()
    async with http.post("/v1/completions", data=completion(stream=True)) as response:  # begins with a comment
        assert response.content_type == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-cache"
        assert response.headers["X-Accel-Buffering"] == "no"
        assert await response.content.readline() == b": queue position 1\n"
        [submit] = await stack.worker.wait_for(Submit)
        await stack.worker.say(submit.request_id, *encode("fox"), ended=Ended("stop"))
        events = [line async for line in response.content if line.startswith(b"data: ")]
    assert events[-1] == b"data: [DONE]\n"
    assert b'"text":"fox"' in b"".join(events)


async def test_an_error_after_the_stream_began_is_an_event_and_done(stack: Stack, http: aiohttp.ClientSession) -> None:
    stack.worker.reset()
    async with http.post("/v1/completions", data=completion(stream=True)) as response:
        [submit] = await stack.worker.wait_for(Submit)
        await stack.worker.say(submit.request_id, ended=Ended("error", ErrorCode.INTERNAL, "broken"))
        events = [line async for line in response.content if line.startswith(b"data: ")]
    assert msgspec.json.decode(events[0][len(b"data: ") :], type=ErrorBody).error.message == "broken"
    assert events[1:] == [b"data: [DONE]\n"]


async def test_leaving_a_stream_that_sends_comments(stack: Stack, http: aiohttp.ClientSession) -> None:
    stack.worker.reset()
    async with http.post("/v1/completions", data=completion(stream=True)) as response:
        await response.content.readline()
        response.close()
    [cancel] = await stack.worker.wait_for(Cancel)
    [submit] = await stack.worker.wait_for(Submit)
    assert cancel.request_id == submit.request_id


# --- status -------------------------------------------------------------------------------------


async def test_the_models_and_their_states(http: aiohttp.ClientSession) -> None:
    async with http.get("/v1/models") as response:
        body = await response.json()
    found = {model["id"]: (model["state"], model["context_length"]) for model in body["data"]}
    assert found == {
        CHAT: ("resident", CONTEXT_LENGTH),
        BASE: ("resident", CONTEXT_LENGTH),
        ASLEEP: ("loading", None),
    }
    async with http.get(f"/v1/models/{CHAT}") as response:
        body = await response.json()
    assert (body["id"], body["slo"], body["priority"]) == (CHAT, {"ttft_s": 4.0, "tbt_s": 0.1}, 2)
    async with http.get("/v1/models/none") as response:
        assert response.status == 404
        assert (await error_of(response)).code == "model_not_found"


async def test_a_model_shows_its_attainment(stack: Stack, http: aiohttp.ClientSession) -> None:
    async with http.get(f"/v1/models/{ASLEEP}") as response:
        assert (await response.json())["attainment"] is None
    stack.says("The quick brown fox")
    for level in (NEVER_LATE, ALWAYS_LATE):
        async with http.post("/v1/completions", data=completion(**level)) as response:
            await response.read()
    async with http.get(f"/v1/models/{BASE}") as response:
        assert 0 < (await response.json())["attainment"] < 1


async def test_health_and_readiness(stack: Stack, http: aiohttp.ClientSession) -> None:
    async with http.get("/health") as response:
        assert response.status == 200
    await stack.worker.beat()
    async with http.get("/ready") as response:
        assert response.status == 200
