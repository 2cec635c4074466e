"""Generation by real models through the real stack, as the official client sees it."""

from typing import Any

import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam

from tests.e2e.driving import BASE_MODEL, BOTH, CHAT_MODEL, complete, complete_streaming

PROMPT = "The capital of France is"
QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is the capital of France?"}]


async def test_models_say_what_they_can(client: AsyncOpenAI) -> None:
    models = {model.id: model for model in (await client.models.list()).data}
    assert set(models) == set(BOTH)
    for model in models.values():
        assert model.state in ("resident", "cached")  # type: ignore[attr-defined]
        assert model.context_length >= 8192  # type: ignore[attr-defined]
    assert (await client.models.retrieve(CHAT_MODEL)).id == CHAT_MODEL


async def test_a_chat_streams_what_it_answers_whole(client: AsyncOpenAI) -> None:
    asked: dict[str, Any] = {"model": CHAT_MODEL, "messages": QUESTION, "temperature": 0, "max_completion_tokens": 16}
    whole = await client.chat.completions.create(**asked)
    [choice] = whole.choices
    assert choice.message.role == "assistant"
    assert "Paris" in (choice.message.content or "")
    assert choice.finish_reason in ("stop", "length")

    stream = await client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == choice.message.content
    assert chunks[-2].choices[0].finish_reason == choice.finish_reason
    assert chunks[-1].choices == []
    assert whole.usage is not None
    assert chunks[-1].usage is not None
    cached = {"prompt_tokens_details"}  # the second time it is there
    assert chunks[-1].usage.model_dump(exclude=cached) == whole.usage.model_dump(exclude=cached)
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens


@pytest.mark.parametrize("model", BOTH)
async def test_a_completion_streams_what_it_answers_whole(client: AsyncOpenAI, model: str) -> None:
    whole = await complete(client, model, PROMPT, max_tokens=12)
    streamed = await complete_streaming(client, model, PROMPT, max_tokens=12)
    assert len(streamed.pieces) > 6  # as the tokens come, not at the end
    assert (streamed.text, streamed.token_ids) == (whole.text, whole.token_ids)
    assert streamed.prompt_token_ids == whole.prompt_token_ids
    assert whole.num_output_tokens == streamed.num_output_tokens == len(whole.token_ids) == 12
    assert whole.finish_reason == streamed.finish_reason == "length"


async def test_a_prompt_of_token_ids_is_the_same_prompt(client: AsyncOpenAI) -> None:
    by_text = await complete(client, BASE_MODEL, PROMPT, max_tokens=6)
    by_ids = await complete(client, BASE_MODEL, by_text.prompt_token_ids, max_tokens=6)
    assert by_ids == by_text


async def test_a_list_of_prompts_gives_a_choice_each(client: AsyncOpenAI) -> None:
    asked: dict[str, Any] = {"model": CHAT_MODEL, "max_tokens": 4, "temperature": 0}
    asked["extra_body"] = {"return_token_ids": True}
    answer = await client.completions.create(prompt=[PROMPT, "One, two, three,"], **asked)
    prompts = [choice.prompt_token_ids for choice in answer.choices]
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert prompts[0] != prompts[1]
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(prompts[0]) + len(prompts[1])

    texts = ["", ""]
    async for chunk in await client.completions.create(prompt=prompts, stream=True, **asked):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert all(texts)


@pytest.mark.parametrize("model", BOTH)
async def test_a_stop_string_over_a_token_border_ends_the_text_before_it(client: AsyncOpenAI, model: str) -> None:
    free = await complete_streaming(client, model, PROMPT, max_tokens=16)
    stop = free.pieces[5][-2:] + free.pieces[6][:2]
    assert stop not in free.pieces
    asked = {"max_tokens": 16, "stop": [stop, "never said"]}
    expected = free.text[: free.text.index(stop)]
    whole = await complete(client, model, PROMPT, **asked)
    streamed = await complete_streaming(client, model, PROMPT, **asked)
    assert whole.text == streamed.text == expected
    assert whole.finish_reason == streamed.finish_reason == "stop"


async def test_a_character_of_several_tokens_comes_whole(client: AsyncOpenAI) -> None:
    """SmolLM2's tokens are bytes of such characters."""
    prompt = "，你好！，你好！，你好！，你好！"
    streamed = await complete_streaming(client, CHAT_MODEL, prompt, max_tokens=16)
    assert "" in streamed.pieces  # a token that completes no character
    assert any(ord(character) > 0x7F for character in streamed.text[:-1])
    assert "�" not in streamed.text[:-1]  # the token limit may cut the last one
    assert (await complete(client, CHAT_MODEL, prompt, max_tokens=16)).text == streamed.text


async def test_a_seed_repeats_a_sampled_text(client: AsyncOpenAI) -> None:
    asked = {"max_tokens": 12, "temperature": 1.0}
    texts = [(await complete(client, BASE_MODEL, PROMPT, **asked, seed=seed)).text for seed in (7, 7, 8)]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


async def test_end_tokens_count_only_when_asked_to(client: AsyncOpenAI) -> None:
    """The chat's answer is short by itself."""
    asked: dict[str, Any] = {"model": CHAT_MODEL, "messages": QUESTION, "temperature": 0, "max_tokens": 40}
    free = await client.chat.completions.create(**asked)
    assert free.choices[0].finish_reason == "stop"
    forced = await client.chat.completions.create(**asked, extra_body={"ignore_eos": True})
    assert forced.choices[0].finish_reason == "length"
    assert forced.usage is not None
    assert forced.usage.completion_tokens == 40


@pytest.mark.parametrize("model", BOTH)
async def test_an_output_scored_as_a_prompt_has_the_same_log_probabilities(client: AsyncOpenAI, model: str) -> None:
    """Computed token by token, and again all at once: in bfloat16 they differ by rounding."""
    asked: dict[str, Any] = {"model": model, "temperature": 0, "logprobs": 5}
    shown = {"return_token_ids": True}
    drawn = await client.completions.create(prompt=PROMPT, max_tokens=12, **asked, extra_body=shown)
    whole = [*drawn.choices[0].prompt_token_ids, *drawn.choices[0].token_ids]
    scored = await client.completions.create(prompt=whole, echo=True, max_tokens=0, **asked)
    first, second = drawn.choices[0].logprobs, scored.choices[0].logprobs
    assert first is not None and first.token_logprobs is not None and first.tokens is not None
    assert second is not None and second.token_logprobs is not None and second.tokens is not None
    assert second.tokens[-12:] == first.tokens
    assert second.token_logprobs[-12:] == pytest.approx(first.token_logprobs, abs=0.25)
    assert len(second.tokens) == len(whole)
    assert scored.choices[0].text.endswith(drawn.choices[0].text)
    assert scored.usage is not None and scored.usage.completion_tokens == 0


async def test_a_chats_tokens_spell_its_content(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model=CHAT_MODEL, messages=QUESTION, temperature=0, max_tokens=16, n=2, logprobs=True, top_logprobs=3
    )
    for choice in answer.choices:
        assert choice.logprobs is not None and choice.logprobs.content is not None
        spelled = b"".join(bytes(entry.bytes or []) for entry in choice.logprobs.content)
        assert spelled.decode().removesuffix("<|im_end|>") == choice.message.content
        assert all(entry.logprob == entry.top_logprobs[0].logprob for entry in choice.logprobs.content)  # greedy
    assert answer.choices[0].message.content == answer.choices[1].message.content


async def test_choices_of_one_prompt_differ_and_a_bias_bans(client: AsyncOpenAI) -> None:
    asked: dict[str, Any] = {"model": CHAT_MODEL, "prompt": PROMPT, "max_tokens": 12, "seed": 3}
    asked["extra_body"] = {"return_token_ids": True}
    answer = await client.completions.create(n=4, temperature=1.0, **asked)
    assert len({choice.text for choice in answer.choices}) == 4
    greedy = await client.completions.create(temperature=0, **asked)
    [first, *_] = greedy.choices[0].token_ids
    banned = await client.completions.create(temperature=0, logit_bias={str(first): -100}, **asked)
    assert first not in banned.choices[0].token_ids
