"""/v1/responses and /v1/embeddings as the openai client sees them."""

import asyncio
from typing import Any

import aiohttp
import openai
import pytest

from shared.errors import ErrorCode
from shared.messages import Cancel, Ended, Submit
from shared.slo import Slo
from tests.integration.gateway_harness import ASLEEP, BASE, CHAT, CONTEXT_LENGTH, Stack, encode
from tests.unit.gateway.tiny_models import BOS_ID

pytestmark = pytest.mark.asyncio(loop_scope="module")
GATEWAY = {"keepalive_s": 0.05}
Client = Any  # AsyncOpenAI, whose overloads know no plain dicts


async def events_of(client: Client, **asked: Any) -> list[Any]:
    return [event async for event in await client.responses.create(model=CHAT, stream=True, **asked)]


# --- answers ------------------------------------------------------------------------------------


async def test_a_response(stack: Stack, client: Client) -> None:
    token_ids = stack.says("Grüße 🎉 done")
    stack.worker.num_cached_tokens = 3
    answer = await client.responses.create(model=CHAT, input="hello")
    assert answer.output_text == "Grüße 🎉 done"
    assert (answer.object, answer.status, answer.model, answer.error) == ("response", "completed", CHAT, None)
    [item] = answer.output
    assert (item.type, item.role, item.status) == ("message", "assistant", "completed")
    assert (item.content[0].type, item.content[0].annotations) == ("output_text", [])
    [submit] = await stack.worker.wait_for(Submit)
    assert list(submit.prompt) == [BOS_ID, *encode("user: hello\nassistant:")]
    assert submit.sampling.max_tokens == CONTEXT_LENGTH - len(submit.prompt)
    usage = answer.usage
    assert (usage.input_tokens, usage.output_tokens) == (len(submit.prompt), len(token_ids))
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert usage.input_tokens_details.cached_tokens == 3


async def test_a_streamed_response_in_the_order_of_events(stack: Stack, client: Client) -> None:
    stack.says("Grüße 🎉 done")
    events = await events_of(client, input="hello")
    kinds = [event.type.removeprefix("response.") for event in events]
    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert kinds[-4:] == ["output_text.done", "content_part.done", "output_item.done", "completed"]
    assert set(kinds[4:-4]) == {"output_text.delta"} and len(kinds) > 10  # as it comes
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events[4:-4]) == events[-4].text == "Grüße 🎉 done"
    assert events[0].response.status == events[1].response.status == "in_progress"
    last = events[-1].response
    assert (last.status, last.output_text) == ("completed", "Grüße 🎉 done")
    assert last.usage.output_tokens == len(encode("Grüße 🎉 done")) + 1
    assert len({event.item_id for event in events[3:-2]} | {last.output[0].id}) == 1


async def test_the_sdk_puts_a_stream_together(stack: Stack, client: Client) -> None:
    stack.says("The quick brown fox")
    async with client.responses.stream(model=CHAT, input="hello") as stream:
        response = await stream.get_final_response()
    assert response.output_text == "The quick brown fox"


@pytest.mark.parametrize("is_stream", [False, True])
async def test_what_max_output_tokens_cut_off_is_incomplete(stack: Stack, client: Client, is_stream: bool) -> None:
    stack.says("The quick brown fox")
    if is_stream:
        last = (await events_of(client, input="hello", max_output_tokens=2))[-1]
        assert last.type == "response.incomplete"
        answer = last.response
    else:
        answer = await client.responses.create(model=CHAT, input="hello", max_output_tokens=2)
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert answer.output[0].status == "incomplete"
    assert answer.usage.output_tokens == 2


async def test_instructions_items_and_what_came_back_become_a_chat(stack: Stack, client: Client) -> None:
    stack.says("one")
    first = await client.responses.create(model=CHAT, input="hello", instructions="be kind")
    second = [{"role": "user", "content": "hello"}, *first.output, {"role": "user", "content": "again"}]
    await client.responses.create(model=CHAT, input=second, instructions="be kind")
    _, submit = await stack.worker.wait_for(Submit, 2)
    text = "system: be kind\nuser: hello\nassistant: one\nuser: again\nassistant:"
    assert list(submit.prompt) == [BOS_ID, *encode(text)]


async def test_parameters_reach_the_worker_and_come_back(stack: Stack, client: Client) -> None:
    stack.says("ok")
    answer = await client.responses.create(
        model=CHAT,
        input="hello",
        max_output_tokens=9,
        temperature=0.5,
        top_p=0.9,
        metadata={"a": "b"},
        user="me",
        store=True,
        reasoning={"effort": "low"},
        extra_body={"top_k": 7, "seed": 5, "ttft_s": 1.5, "tbt_s": 0.5, "priority": -3},
    )
    [submit] = await stack.worker.wait_for(Submit)
    sampling = submit.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.seed) == (0.5, 0.9, 7, 5)
    assert (sampling.max_tokens, submit.slo, submit.priority) == (9, Slo(1.5, 0.5), -3)
    assert (answer.temperature, answer.top_p, answer.max_output_tokens) == (0.5, 0.9, 9)
    assert (answer.metadata, answer.user, answer.reasoning.effort) == ({"a": "b"}, "me", "low")
    assert answer.store is False and answer.previous_response_id is None


async def test_a_waiting_stream_begins_and_is_kept_alive(stack: Stack) -> None:
    stack.worker.reset()
    body = {"model": CHAT, "input": "hello", "stream": True}
    async with aiohttp.ClientSession(stack.url) as http, http.post("/v1/responses", json=body) as response:
        lines = [await response.content.readline() for _ in range(7)]
        assert (lines[0], lines[3]) == (b"event: response.created\n", b"event: response.in_progress\n")
        assert lines[6].startswith(b": ")
        [submit] = await stack.worker.wait_for(Submit)
        await stack.worker.say(submit.request_id, *encode("fox"), ended=Ended("stop"))
        assert b"response.completed" in await response.read()


async def test_who_leaves_cancels(stack: Stack, client: Client) -> None:
    stack.worker.reset()
    asking = asyncio.create_task(client.responses.create(model=CHAT, input="hello"))
    [submit] = await stack.worker.wait_for(Submit)
    asking.cancel()
    await asyncio.wait([asking])
    [cancel] = await stack.worker.wait_for(Cancel)
    assert cancel.request_id == submit.request_id


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "param", "match"),
    [
        ({"input": []}, "input", "empty"),
        ({"previous_response_id": "resp-1"}, "previous_response_id", "whole conversation"),
        ({"temperature": 3.0}, "temperature", "at most 2"),
        ({"max_output_tokens": 500}, "max_output_tokens", "maximum context length"),
        ({"model": BASE}, "input", "no chat template"),
    ],
)
async def test_bad_requests(client: Client, asked: dict[str, Any], param: str, match: str) -> None:
    with pytest.raises(openai.BadRequestError, match=match) as caught:
        await client.responses.create(**{"model": CHAT, "input": "hello"} | asked)
    assert caught.value.param == param


async def test_an_unknown_model(client: Client) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await client.responses.create(model="gpt-99", input="hello")
    assert caught.value.code == "model_not_found"


async def test_a_model_that_is_still_loading(client: Client) -> None:
    with pytest.raises(openai.InternalServerError, match="loading") as caught:
        await client.responses.create(model=ASLEEP, input="hello", stream=True)
    assert caught.value.status_code == 503


async def test_an_error_in_the_middle_of_a_stream_is_raised_after_the_failed_response(
    stack: Stack, client: Client
) -> None:
    stack.worker.reset()
    events: list[Any] = []

    async def ask() -> None:
        async for event in await client.responses.create(model=CHAT, input="hello", stream=True):
            events.append(event)

    asking = asyncio.create_task(ask())
    [submit] = await stack.worker.wait_for(Submit)
    failed = Ended("error", ErrorCode.INTERNAL, "the step failed")
    await stack.worker.say(submit.request_id, *encode("quick"), ended=failed)
    with pytest.raises(openai.APIError, match="the step failed") as caught:
        await asking
    assert caught.value.code == "internal_error"
    last = events[-1]
    assert (last.type, last.response.status) == ("response.failed", "failed")
    assert (last.response.error.code, last.response.error.message) == ("server_error", "the step failed")
    assert last.response.output_text == "quick"


async def test_embeddings_are_refused_with_the_reason(client: Client) -> None:
    with pytest.raises(openai.BadRequestError, match="generates text") as caught:
        await client.embeddings.create(model=BASE, input="hello")
    assert caught.value.param == "model"
    with pytest.raises(openai.NotFoundError):
        await client.embeddings.create(model="gpt-99", input=["hello"])
