"""Log-probabilities and echoed prompts of completions, as the openai client sees them."""

import asyncio
from typing import Any

import pytest

from shared.messages import Ended, Resend, Submit
from tests.integration.gateway_harness import BASE, CONTEXT_LENGTH, Stack, encode
from tests.unit.gateway.tiny_models import BOS, BOS_ID, EOS, EOS_ID

pytestmark = pytest.mark.asyncio(loop_scope="module")
Client = Any  # AsyncOpenAI, whose overloads know neither plain dicts nor vLLM's fields
TEXT = "Grüße 🎉 done"


def check_text_entries(choice: Any, num_top: int, *, has_prompt: bool = False) -> None:
    logprobs = choice.logprobs
    first = int(has_prompt)
    assert logprobs.token_logprobs == [None] * first + [-0.5] * (len(logprobs.tokens) - first)
    assert logprobs.top_logprobs[:first] == [None] * first
    for token, top in zip(logprobs.tokens[first:], logprobs.top_logprobs[first:], strict=True):
        assert top[token] == -0.5
        assert len(top) <= max(1, num_top)
    assert len(logprobs.text_offset) == len(logprobs.tokens)
    for token, offset in zip(logprobs.tokens, logprobs.text_offset, strict=True):
        if token not in (BOS, EOS) and not token.startswith("bytes:"):
            assert choice.text[offset : offset + len(token)] == token


@pytest.mark.parametrize("num_top", [0, 1, 5])
async def test_a_completions_logprobs(stack: Stack, client: Client, num_top: int) -> None:
    token_ids = stack.says(TEXT)
    answer = await client.completions.create(model=BASE, prompt="The", logprobs=num_top, max_tokens=50)
    choice = answer.choices[0]
    assert choice.text == TEXT
    assert len(choice.logprobs.tokens) == len(token_ids)
    check_text_entries(choice, num_top)
    assert choice.logprobs.text_offset[0] == 0
    assert choice.logprobs.tokens[-1] == EOS
    assert any(token.startswith("bytes:") and "\\xf0" in token for token in choice.logprobs.tokens)


async def test_a_streamed_completions_logprobs(stack: Stack, client: Client) -> None:
    stack.says(TEXT)
    whole = (await client.completions.create(model=BASE, prompt="The", logprobs=2, max_tokens=50)).choices[0].logprobs
    stack.says(TEXT)
    stream = await client.completions.create(model=BASE, prompt="The", logprobs=2, max_tokens=50, stream=True)
    parts = [chunk.choices[0].logprobs async for chunk in stream]
    for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        assert [item for part in parts for item in getattr(part, name)] == getattr(whole, name)


# --- echo ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("prompt", ["The lazy", encode("The lazy")], ids=["text", "tokens"])
async def test_echo_begins_with_the_prompt(stack: Stack, client: Client, prompt: Any, is_stream: bool) -> None:
    stack.says(" dog")
    answer = await client.completions.create(model=BASE, prompt=prompt, echo=True, n=2, stream=is_stream)
    if is_stream:
        texts = {0: "", 1: ""}
        async for chunk in answer:
            texts[chunk.choices[0].index] += chunk.choices[0].text
    else:
        texts = {choice.index: choice.text for choice in answer.choices}
        assert answer.usage.completion_tokens == 2 * len([*encode(" dog"), EOS_ID])
    assert texts == {0: "The lazy dog", 1: "The lazy dog"}
    submits = await stack.worker.wait_for(Submit, 2)
    assert {submit.sampling.num_prompt_logprobs for submit in submits} == {None}


@pytest.mark.parametrize("is_stream", [False, True])
async def test_echo_with_logprobs_has_the_prompts(stack: Stack, client: Client, is_stream: bool) -> None:
    output = stack.says(" dog")
    asked = {"model": BASE, "prompt": "The lazy", "echo": True, "logprobs": 3, "stream": is_stream}
    answer = await client.completions.create(**asked)
    choices = [chunk.choices[0] async for chunk in answer] if is_stream else answer.choices
    tokens = [token for choice in choices for token in choice.logprobs.tokens]
    assert len(tokens) == len([BOS_ID, *encode("The lazy"), *output])
    assert "".join(tokens) == f"{BOS}The lazy dog{EOS}"
    assert choices[0].logprobs.text_offset[:2] == [0, 0]  # the special token is no text
    assert "".join(choice.text for choice in choices) == "The lazy dog"
    if not is_stream:
        check_text_entries(choices[0], 3, has_prompt=True)


@pytest.mark.parametrize("asked", [{}, {"echo": True, "logprobs": 2}], ids=["alone", "beside those of an echo"])
async def test_a_prompts_logprobs_by_vllms_name(stack: Stack, client: Client, asked: dict[str, Any]) -> None:
    stack.says(" dog")
    answer = await client.completions.create(
        model=BASE, prompt="The lazy", n=2, extra_body={"prompt_logprobs": 2}, **asked
    )
    prompt = [BOS_ID, *encode("The lazy")]
    for choice in answer.choices:
        first, *others = choice.prompt_logprobs
        assert first is None and len(others) == len(prompt) - 1
        for token_id, entry in zip(prompt[1:], others, strict=True):
            own = entry[str(token_id)]
            assert (own["logprob"], own["rank"]) == (-0.5, 1)  # as the scripted worker scores
            assert entry[str(token_id + 1)] | {"decoded_token": ""} == {"logprob": -1.5, "rank": 2, "decoded_token": ""}
        assert (
            "".join(entry[str(i)]["decoded_token"] for i, entry in zip(prompt[1:], others, strict=True)) == "The lazy"
        )


async def test_special_tokens_that_a_prompt_spells_are_in_its_echo(stack: Stack, client: Client) -> None:
    stack.says(" dog")
    prompt = f"lazy{EOS} fox"
    answer = await client.completions.create(model=BASE, prompt=prompt, echo=True, logprobs=0)
    choice = answer.choices[0]
    assert choice.text == f"{prompt} dog"
    at = choice.logprobs.tokens.index(EOS)
    assert choice.logprobs.text_offset[at : at + 2] == [len("lazy"), len(f"lazy{EOS}")]
    check_text_entries(choice, 0, has_prompt=True)


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_prompt_is_scored_alone(stack: Stack, client: Client, is_stream: bool) -> None:
    stack.says(" dog")
    asked = {"model": BASE, "prompt": ["The lazy", "fox"], "echo": True, "logprobs": 1, "max_tokens": 0}
    if is_stream:
        usage = {"include_usage": True}
        stream = await client.completions.create(**asked, stream=True, stream_options=usage)
        chunks = [chunk async for chunk in stream]
        choices, usage = [chunk.choices[0] for chunk in chunks[:-1]], chunks[-1].usage
    else:
        answer = await client.completions.create(**asked)
        choices, usage = answer.choices, answer.usage
    by_index = {choice.index: choice for choice in choices}
    assert {index: choice.text for index, choice in by_index.items()} == {0: "The lazy", 1: "fox"}
    assert {choice.finish_reason for choice in choices} == {"length"}
    assert "".join(by_index[0].logprobs.tokens) == f"{BOS}The lazy"
    check_text_entries(by_index[0], 1, has_prompt=True)
    assert usage.completion_tokens == 0


async def test_a_prompts_logprobs_survive_lost_frames_and_a_lost_worker(stack: Stack, client: Client) -> None:
    stack.worker.reset()
    asked = {"model": BASE, "prompt": "The lazy quick fox", "echo": True, "logprobs": 0, "max_tokens": 1}
    asking = asyncio.create_task(client.completions.create(**asked))
    [submit] = await stack.worker.wait_for(Submit)
    num_scored = len(submit.prompt) - 1
    await stack.worker.score_prompt(submit.request_id, 0, 2)
    await stack.worker.die()
    await stack.worker.wait_for(Submit, 2)
    await stack.worker.score_prompt(submit.request_id, 0, 1)
    stack.worker.lose(submit.request_id)
    await stack.worker.score_prompt(submit.request_id, num_scored - 1)
    await stack.worker.wait_for(Resend)
    await stack.worker.say(submit.request_id, *encode("dog")[:1], ended=Ended("length"))
    choice = (await asking).choices[0]
    assert "".join(choice.logprobs.tokens) == f"{BOS}{choice.text}"
    check_text_entries(choice, 0, has_prompt=True)


async def test_a_prompt_that_fills_the_context_but_for_one_token_can_be_scored(stack: Stack, client: Client) -> None:
    stack.says("fox")
    prompt = [5] * (CONTEXT_LENGTH - 1)
    answer = await client.completions.create(model=BASE, prompt=prompt, echo=True, logprobs=0, max_tokens=0)
    assert len(answer.choices[0].logprobs.tokens) == len(prompt)
