"""Several choices of one prompt, as the openai client sees them."""

from typing import Any

import openai
import pytest

from shared.messages import Submit
from tests.integration.gateway_harness import BASE, CHAT, Stack, encode
from tests.unit.gateway.tiny_models import EOS_ID

pytestmark = pytest.mark.asyncio(loop_scope="module")
Client = Any  # AsyncOpenAI, whose overloads know neither plain dicts nor vLLM's fields
GATEWAY = {"max_requests": 80}
HELLO = [{"role": "user", "content": "hello"}]


def say_by_choice(stack: Stack, *texts: str) -> None:
    """Choice k of a prompt is answered with the k-th text."""
    stack.worker.reset(lambda submit: [*encode(texts[submit.sampling.choice_index]), EOS_ID])


async def test_choices_of_one_chat_have_a_seed_and_differ_by_their_index(stack: Stack, client: Client) -> None:
    say_by_choice(stack, "fox", "dog", "quick brown")
    answer = await client.chat.completions.create(model=CHAT, messages=HELLO, n=3)
    assert [(c.index, c.message.content) for c in answer.choices] == [(0, "fox"), (1, "dog"), (2, "quick brown")]
    submits = await stack.worker.wait_for(Submit, 3)
    assert sorted(submit.sampling.choice_index for submit in submits) == [0, 1, 2]
    assert len({submit.sampling.seed for submit in submits}) == 1
    assert answer.usage.prompt_tokens == len(submits[0].prompt)  # once
    assert answer.usage.completion_tokens == sum(len(encode(t)) + 1 for t in ("fox", "dog", "quick brown"))


async def test_choices_of_one_chat_streamed(stack: Stack, client: Client) -> None:
    say_by_choice(stack, "fox", "quick brown")
    stream = await client.chat.completions.create(
        model=CHAT, messages=HELLO, n=2, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    texts, reasons = {0: "", 1: ""}, dict[int, str]()
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        texts[choice.index] += choice.delta.content or ""
        if choice.finish_reason:
            reasons[choice.index] = choice.finish_reason
    assert texts == {0: "fox", 1: "quick brown"}
    assert reasons == {0: "stop", 1: "stop"}
    [submit, _] = await stack.worker.wait_for(Submit, 2)
    assert chunks[-1].usage.prompt_tokens == len(submit.prompt)


async def test_choices_of_several_prompts_come_prompt_by_prompt(stack: Stack, client: Client) -> None:
    texts = [encode("fox dog"), encode(" dog")]
    stack.worker.reset(lambda submit: [*submit.prompt, *texts[submit.sampling.choice_index], EOS_ID])
    stack.worker.num_cached_tokens = 1
    answer = await client.completions.create(model=BASE, prompt=[encode("lazy"), encode("quick")], n=2, best_of=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert [choice.text for choice in answer.choices] == ["lazyfox dog", "lazy dog", "quickfox dog", "quick dog"]
    assert answer.usage.prompt_tokens == len(encode("lazy")) + len(encode("quick"))
    assert answer.usage.prompt_tokens_details.cached_tokens == 2
    submits = await stack.worker.wait_for(Submit, 4)
    seeds = {submit.prompt: submit.sampling.seed for submit in submits}
    assert all(submit.sampling.seed == seeds[submit.prompt] for submit in submits)


async def test_a_request_has_64_choices_at_most(stack: Stack, client: Client) -> None:
    stack.says("fox")
    answer = await client.completions.create(model=BASE, prompt=["x"] * 16, n=4, max_tokens=1)
    assert len(answer.choices) == 64
    with pytest.raises(openai.BadRequestError, match="got 68") as caught:
        await client.completions.create(model=BASE, prompt=["x"] * 17, n=4)
    assert caught.value.param == "n"
