"""What else steers sampling, as the openai client sees it: bias, stop tokens, usage in chunks, and what is refused."""

from typing import Any

import openai
import pytest

from shared.messages import Submit
from tests.integration.gateway_harness import BASE, CHAT, Stack
from tests.unit.gateway.tiny_models import EOS_ID

pytestmark = pytest.mark.asyncio(loop_scope="module")
Client = Any  # AsyncOpenAI, whose overloads know neither plain dicts nor vLLM's fields
HELLO = [{"role": "user", "content": "hello"}]


async def test_bias_and_stop_tokens_reach_the_worker(stack: Stack, client: Client) -> None:
    stack.says("fox")
    asked = {"stop_token_ids": [7, EOS_ID, 9]}
    await client.chat.completions.create(
        model=CHAT, messages=HELLO, logit_bias={"12": -100, "5": 1.5}, extra_body=asked, user="me",
        metadata={"a": "b"}, service_tier="auto", store=True,
    )  # fmt: skip
    await client.completions.create(model=BASE, prompt="x", extra_body={**asked, "ignore_eos": True})
    first, second = await stack.worker.wait_for(Submit, 2)
    assert first.sampling.logit_bias == ((5, 1.5), (12, -100.0))
    assert first.sampling.stop_token_ids == (EOS_ID, 7, 9)
    assert second.sampling.stop_token_ids == (7, EOS_ID, 9)


@pytest.mark.parametrize("is_kept", [False, True])
async def test_a_stop_string_is_in_the_text_where_it_is_wanted(stack: Stack, client: Client, is_kept: bool) -> None:
    stack.says("The quick brown fox", ends=False)
    answer = await client.completions.create(
        model=BASE, prompt="x", stop="own f", extra_body={"include_stop_str_in_output": is_kept}
    )
    assert answer.choices[0].text == ("The quick brown f" if is_kept else "The quick br")
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("is_kept", [False, True])
async def test_a_stop_token_is_text_where_it_is_wanted(stack: Stack, client: Client, is_kept: bool) -> None:
    token_ids = stack.says("quick fox")
    asked = {"stop_token_ids": token_ids[-2:-1], "include_stop_str_in_output": is_kept}
    answer = await client.completions.create(model=BASE, prompt="x", extra_body=asked)
    assert answer.usage.completion_tokens == len(token_ids) - 1
    assert (answer.choices[0].text == "quick fox") is is_kept
    assert "quick fox".startswith(answer.choices[0].text)
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("route", ["chat", "completions"])
async def test_usage_so_far_in_each_chunk(stack: Stack, client: Client, route: str) -> None:
    token_ids = stack.says("quick brown fox")
    usage = {"include_usage": True, "continuous_usage_stats": True}
    if route == "chat":
        stream = await client.chat.completions.create(model=CHAT, messages=HELLO, stream=True, stream_options=usage)
    else:
        stream = await client.completions.create(model=BASE, prompt="x", stream=True, stream_options=usage)
    counts = [chunk.usage.completion_tokens async for chunk in stream]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1] == len(token_ids)
    assert len(set(counts)) > 2


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"n": 0}, "n"),
        ({"n": 65}, "n"),
        ({"n": 2, "best_of": 3}, "best_of"),
        ({"best_of": 2}, "best_of"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": -1}, "logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 0, "echo": True}, "max_tokens"),
        ({"max_tokens": 0, "logprobs": 1}, "max_tokens"),
        ({"suffix": "!"}, "suffix"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"logit_bias": {"100000": 1}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"logit_bias": {str(i): 1 for i in range(1025)}}, "logit_bias"),
        ({"extra_body": {"stop_token_ids": [100_000]}}, "stop_token_ids"),
        ({"extra_body": {"stop_token_ids": [5] * 129}}, "stop_token_ids"),
        ({"extra_body": {"prompt_logprobs": 21}}, "prompt_logprobs"),
        ({"extra_body": {"prompt_logprobs": 1}, "stream": True}, "prompt_logprobs"),
        ({"extra_body": {"prompt_logprobs": 1}, "echo": True, "logprobs": 2}, "prompt_logprobs"),
    ],
)
async def test_what_is_out_of_range_is_refused_by_name(client: Client, asked: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.completions.create(model=BASE, prompt="x", **asked)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ({"logit_bias": {"fox": 1}}, "logit_bias"),
        ({"extra_body": {"prompt_logprobs": 1}}, "prompt_logprobs"),
    ],
)
async def test_a_chats_own_refusals(client: Client, asked: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model=CHAT, messages=HELLO, **asked)
    assert caught.value.param == param
