"""The gateway as the openai client sees it."""

import asyncio
from typing import Any

import openai
import pytest

from shared.errors import ErrorCode
from shared.ids import RequestId
from shared.messages import Cancel, Ended, Refused, Submit
from tests.integration.gateway_harness import ASLEEP, BASE, CHAT, CONTEXT_LENGTH, Stack, encode
from tests.unit.gateway.tiny_models import BOS_ID

pytestmark = pytest.mark.asyncio(loop_scope="module")
GATEWAY = {"max_requests": 8, "template_timeout_s": 1.0}
Client = Any  # AsyncOpenAI, whose overloads know neither plain dicts nor vLLM's fields
HELLO = [{"role": "user", "content": "hello"}]


# --- answers ------------------------------------------------------------------------------------


async def test_a_chat(stack: Stack, client: Client) -> None:
    stack.says("Grüße 🎉 done")
    answer = await client.chat.completions.create(model=CHAT, messages=HELLO)
    assert answer.choices[0].message.content == "Grüße 🎉 done"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    [submit] = await stack.worker.wait_for(Submit)
    assert list(submit.prompt) == [BOS_ID, *encode("user: hello\nassistant:")]  # bos once, as the template has it
    assert submit.sampling.max_tokens == CONTEXT_LENGTH - len(submit.prompt)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(submit.prompt)
    assert answer.usage.completion_tokens == len(encode("Grüße 🎉 done")) + 1
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


async def test_a_streamed_chat(stack: Stack, client: Client) -> None:
    stack.says("Grüße 🎉 done")
    stream = await client.chat.completions.create(
        model=CHAT, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "Grüße 🎉 done"
    assert len(chunks) > 4  # as it comes, not at the end
    assert not any("\ufffd" in (chunk.choices[0].delta.content or "") for chunk in chunks[:-1])
    assert [c.choices[0].finish_reason for c in chunks[:-1] if c.choices[0].finish_reason] == ["stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == len(encode("Grüße 🎉 done")) + 1
    assert len({chunk.id for chunk in chunks}) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("route", ["chat", "completions"])
async def test_usage_says_how_many_prompt_tokens_were_cached(
    stack: Stack, client: Client, route: str, stream: bool
) -> None:
    stack.says("done")
    stack.worker.num_cached_tokens = 7
    asked: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    if route == "chat":
        answer, num_prompts = await client.chat.completions.create(model=CHAT, messages=HELLO, **asked), 1
    else:
        answer, num_prompts = await client.completions.create(model=BASE, prompt=["lazy", "dog"], **asked), 2
    usage = [chunk async for chunk in answer][-1].usage if stream else answer.usage
    assert usage.prompt_tokens_details.cached_tokens == 7 * num_prompts


async def test_cached_tokens_are_told_although_a_stop_string_ends_it_first(stack: Stack, client: Client) -> None:
    stack.says("The quick brown fox", ends=False)
    stack.worker.num_cached_tokens = 7
    answer = await client.completions.create(model=BASE, prompt="lazy", stop="quick")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None and answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 7


async def test_a_completion_stops_at_max_tokens(stack: Stack, client: Client) -> None:
    stack.says("The quick brown fox")
    answer = await client.completions.create(model=BASE, prompt="lazy", max_tokens=3)
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].text == "The quick brown fox"[: len(answer.choices[0].text)]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3
    [submit] = await stack.worker.wait_for(Submit)
    assert list(submit.prompt) == [BOS_ID, *encode("lazy")]  # special tokens as the tokenizer adds them


async def test_a_streamed_completion(stack: Stack, client: Client) -> None:
    stack.says("quick brown")
    stream = await client.completions.create(model=BASE, prompt="The", stream=True)
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks) == "quick brown"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert {chunk.object for chunk in chunks} == {"text_completion"}


async def test_several_prompts_are_choices_of_one_answer(stack: Stack, client: Client) -> None:
    def echo(submit: Submit) -> list[int]:
        return [*submit.prompt[-2:], 1]

    stack.worker.reset(echo)
    answer = await client.completions.create(model=BASE, prompt=["quick brown", "lazy dog"])
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert "brown".endswith(answer.choices[0].text.strip())
    stack.worker.reset(echo)
    texts = {0: "", 1: "", 2: ""}
    async for chunk in await client.completions.create(model=BASE, prompt=[[5, 6], [7, 8], [9, 10]], stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    submits = await stack.worker.wait_for(Submit, 3)
    assert [submit.prompt for submit in submits] == [(5, 6), (7, 8), (9, 10)]
    assert all(texts.values())


async def test_return_token_ids_as_vllm_names_them(stack: Stack, client: Client) -> None:
    token_ids = stack.says("fox dog")
    asked = {"return_token_ids": True}
    answer = await client.completions.create(model=BASE, prompt=[5, 6, 7], extra_body=asked)
    assert answer.choices[0].token_ids == token_ids
    assert answer.choices[0].prompt_token_ids == [5, 6, 7]
    stream = await client.chat.completions.create(model=CHAT, messages=HELLO, stream=True, extra_body=asked)
    chunks = [chunk async for chunk in stream]
    prompt = [BOS_ID, *encode("user: hello\nassistant:")]
    assert chunks[0].prompt_token_ids == prompt
    streamed = [t for chunk in chunks for t in getattr(chunk.choices[0], "token_ids", None) or []]
    assert streamed == token_ids


async def test_text_parts_are_one_text(stack: Stack, client: Client) -> None:
    stack.says("ok")
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    await client.chat.completions.create(model=CHAT, messages=[{"role": "user", "content": parts}])
    [submit] = await stack.worker.wait_for(Submit)
    assert list(submit.prompt) == [BOS_ID, *encode("user: one\ntwo\nassistant:")]


# --- stop strings -------------------------------------------------------------------------------


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_stop_string_over_token_borders_cuts_and_cancels(stack: Stack, client: Client, is_stream: bool) -> None:
    stack.says("The quick brown fox jumps over the lazy dog", ends=False)
    asked = {"model": CHAT, "messages": HELLO, "stop": ["own fox j", "zzz"]}
    if is_stream:
        stream = await client.chat.completions.create(**asked, stream=True)
        chunks = [chunk async for chunk in stream]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        reason = chunks[-1].choices[0].finish_reason
    else:
        answer = await client.chat.completions.create(**asked)
        text, reason = answer.choices[0].message.content, answer.choices[0].finish_reason
    assert (text, reason) == ("The quick br", "stop")
    [submit] = await stack.worker.wait_for(Submit)
    [cancel] = await stack.worker.wait_for(Cancel)
    assert cancel.request_id == submit.request_id


async def test_a_beginning_of_a_stop_string_at_the_end_is_text(stack: Stack, client: Client) -> None:
    stack.says("lazy dog")
    answer = await client.completions.create(model=BASE, prompt="x", stop="dog!")
    assert answer.choices[0].text == "lazy dog"


# --- leaving ------------------------------------------------------------------------------------


async def leave(client: Client, stack: Stack, *, is_stream: bool) -> RequestId:
    """Starts a request, and leaves once its Submit is there."""
    asking = asyncio.create_task(client.completions.create(model=BASE, prompt="The", max_tokens=50, stream=is_stream))
    [submit] = await stack.worker.wait_for(Submit)
    asking.cancel()
    await asyncio.wait([asking])
    return submit.request_id


@pytest.mark.parametrize("is_stream", [False, True])
async def test_leaving_while_it_waits_for_its_first_token(stack: Stack, client: Client, is_stream: bool) -> None:
    stack.worker.reset()
    request_id = await leave(client, stack, is_stream=is_stream)
    [cancel] = await stack.worker.wait_for(Cancel)
    assert cancel.request_id == request_id


async def test_leaving_before_a_router_answered(stack: Stack, client: Client) -> None:
    stack.worker.reset()
    stack.worker.is_router_deaf = True
    request_id = await leave(client, stack, is_stream=True)
    [cancel] = await stack.worker.wait_for(Cancel)
    assert cancel.request_id == request_id
    assert [type(message) for message in stack.worker.heard].index(Cancel) == len(stack.worker.heard) - 1


async def test_leaving_a_running_stream(stack: Stack, client: Client) -> None:
    stack.worker.reset()
    asking = asyncio.create_task(client.completions.create(model=BASE, prompt="The", stream=True))
    [submit] = await stack.worker.wait_for(Submit)
    await stack.worker.say(submit.request_id, *encode("quick"))
    stream = await asking
    async for chunk in stream:
        assert chunk.choices[0].text
        break
    await stream.close()
    [cancel] = await stack.worker.wait_for(Cancel)
    assert cancel.request_id == submit.request_id


async def test_leaving_while_the_template_renders(stack: Stack, client: Client) -> None:
    """Nothing was submitted, and its place is free again: all of max_requests are served afterwards."""
    stack.says("ok")
    endless = [{"role": "endless", "content": "x"}]
    asking = asyncio.create_task(client.chat.completions.create(model=CHAT, messages=endless))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(asking), 0.2)
    asking.cancel()
    await asyncio.wait([asking])
    answers = [client.completions.create(model=BASE, prompt="The") for _ in range(8)]
    assert all(answer.choices[0].text == "ok" for answer in await asyncio.gather(*answers))
    assert len(await stack.worker.wait_for(Submit, 8)) == 8


# --- refusals -----------------------------------------------------------------------------------


async def test_an_unknown_model(client: Client) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await client.completions.create(model="gpt-99", prompt="x")
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"


async def test_a_chat_without_a_template(client: Client) -> None:
    with pytest.raises(openai.BadRequestError, match="/v1/completions") as caught:
        await client.chat.completions.create(model=BASE, messages=HELLO)
    assert caught.value.code == "no_chat_template"


@pytest.mark.parametrize("max_tokens", [1, 500])
async def test_too_long_for_the_context(client: Client, max_tokens: int) -> None:
    prompt: list[int] = [5] * (CONTEXT_LENGTH if max_tokens == 1 else 5)
    with pytest.raises(openai.BadRequestError, match="maximum context length is 128 tokens") as caught:
        await client.completions.create(model=BASE, prompt=prompt, max_tokens=max_tokens)
    assert caught.value.code == "context_length_exceeded"


async def test_a_text_too_long_for_the_context(client: Client) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.completions.create(model=BASE, prompt="qqqq " * 100)
    assert caught.value.code == "context_length_exceeded"


async def test_a_template_that_refuses_the_messages(client: Client) -> None:
    with pytest.raises(openai.BadRequestError, match="no angry messages"):
        await client.chat.completions.create(model=CHAT, messages=[{"role": "angry", "content": "x"}])


async def test_a_template_that_never_ends_fails_alone(stack: Stack, client: Client) -> None:
    stack.says("ok")
    endless = [{"role": "endless", "content": "x"}]
    slow = asyncio.create_task(client.chat.completions.create(model=CHAT, messages=endless))
    for _ in range(3):  # more than one process could have been left
        answer = await client.chat.completions.create(model=CHAT, messages=HELLO)
        assert answer.choices[0].message.content == "ok"
    with pytest.raises(openai.BadRequestError, match="took more than 1 s"):
        await slow


async def test_a_model_that_is_still_loading(client: Client) -> None:
    with pytest.raises(openai.InternalServerError, match="loading") as caught:
        await client.completions.create(model=ASLEEP, prompt="x")
    assert caught.value.status_code == 503
    assert int(caught.value.response.headers["Retry-After"]) >= 1


async def test_more_than_max_requests(stack: Stack, client: Client) -> None:
    stack.worker.reset()
    waiting = [asyncio.create_task(client.completions.create(model=BASE, prompt="x")) for _ in range(8)]
    submits = await stack.worker.wait_for(Submit, 8)
    with pytest.raises(openai.RateLimitError) as caught:
        await client.completions.create(model=BASE, prompt="x")
    assert int(caught.value.response.headers["Retry-After"]) >= 1
    for submit in submits:
        await stack.worker.say(submit.request_id, ended=Ended("stop"))
    await asyncio.gather(*waiting)


async def test_a_refusal_of_the_router(stack: Stack, client: Client) -> None:
    def refuse(submit: Submit) -> Refused:
        return Refused(submit.request_id, 0, ErrorCode.OVERLOADED, "all queues are full", 3.0)

    stack.worker.reset(refuse)
    with pytest.raises(openai.RateLimitError, match="all queues are full") as caught:
        await client.completions.create(model=BASE, prompt="x", stream=True)
    assert caught.value.response.headers["Retry-After"] == "3"


async def test_an_error_in_the_middle_of_a_stream(stack: Stack, client: Client) -> None:
    stack.worker.reset()
    asking = asyncio.create_task(client.completions.create(model=BASE, prompt="The", stream=True))
    [submit] = await stack.worker.wait_for(Submit)
    failed = Ended("error", ErrorCode.INTERNAL, "the step failed")
    await stack.worker.say(submit.request_id, *encode("quick"), ended=failed)
    texts = []
    with pytest.raises(openai.APIError, match="the step failed"):
        async for chunk in await asking:
            texts.append(chunk.choices[0].text)
    assert "".join(texts) == "quick"


# --- trouble ------------------------------------------------------------------------------------


async def test_lost_frames_are_asked_for(stack: Stack, client: Client) -> None:
    token_ids = stack.says("The quick brown fox")
    stack.broker.drop_next("kottos.owner.*", 2)  # Assigned and the first frame
    answer = await client.completions.create(model=BASE, prompt="x", max_tokens=40)
    assert answer.choices[0].text == "The quick brown fox"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == len(token_ids)


async def test_a_stream_survives_its_worker(stack: Stack, client: Client) -> None:
    stack.worker.reset()
    asking = asyncio.create_task(client.completions.create(model=BASE, prompt="The", stream=True))
    [submit] = await stack.worker.wait_for(Submit)
    await stack.worker.say(submit.request_id, *encode("quick"))
    stream = await asking
    texts = [(await anext(stream)).choices[0].text]
    await stack.worker.die()
    again = (await stack.worker.wait_for(Submit, 2))[1]
    assert (again.attempt, list(again.output)) == (1, encode("quick"))
    assert again.sampling == submit.sampling  # the same seed
    await stack.worker.say(submit.request_id, *encode(" brown"), ended=Ended("stop"))
    texts += [chunk.choices[0].text async for chunk in stream]
    assert "".join(texts) == "quick brown"
