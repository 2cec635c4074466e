"""Several choices, log-probabilities and what else steers sampling, as the openai client sees them."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import openai
import pytest
import pytest_asyncio

from shared.messages import Ended, Resend, Submit
from tests.integration.gateway_harness import BASE, CHAT, CONTEXT_LENGTH, Stack, encode, open_stack
from tests.unit.gateway.tiny_models import BOS, BOS_ID, EOS, EOS_ID

pytestmark = pytest.mark.asyncio(loop_scope="module")
Client = Any  # AsyncOpenAI, whose overloads know neither plain dicts nor vLLM's fields
HELLO = [{"role": "user", "content": "hello"}]
TEXT = "Grüße 🎉 done"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with open_stack(tmp_path_factory.mktemp("gateway"), max_requests=80) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def client(stack: Stack) -> AsyncIterator[Client]:
    async with stack.client() as opened:
        yield opened


def say_by_choice(stack: Stack, *texts: str) -> None:
    """Choice k of a prompt is answered with the k-th text."""
    stack.worker.reset(lambda submit: [*encode(texts[submit.sampling.choice_index]), EOS_ID])


# --- n ------------------------------------------------------------------------------------------


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


# --- log-probabilities of a chat ----------------------------------------------------------------


def check_chat_entries(entries: Iterable[Any], num_top: int) -> bytes:
    """-> the bytes of their tokens."""
    text = b""
    for entry in entries:
        assert entry.logprob == -0.5
        assert [top.logprob for top in entry.top_logprobs] == [-0.5 - k for k in range(num_top)]
        assert all(top.token == entry.token and top.bytes == entry.bytes for top in entry.top_logprobs[:1])
        text += bytes(entry.bytes)
    return text


@pytest.mark.parametrize("num_top", [0, 2, 20])
async def test_a_chats_logprobs(stack: Stack, client: Client, num_top: int) -> None:
    token_ids = stack.says(TEXT)
    answer = await client.chat.completions.create(model=CHAT, messages=HELLO, logprobs=True, top_logprobs=num_top)
    entries = answer.choices[0].logprobs.content
    assert len(entries) == len(token_ids) == answer.usage.completion_tokens
    assert check_chat_entries(entries, num_top) == f"{TEXT}{EOS}".encode()
    assert entries[-1].token == EOS
    assert "\\xf0\\x9f" in "".join(entry.token for entry in entries)  # the party is in parts
    [submit] = await stack.worker.wait_for(Submit)
    assert (submit.sampling.num_logprobs, submit.sampling.num_prompt_logprobs) == (num_top, None)


@pytest.mark.parametrize("stop", [None, "done?"])
async def test_a_streamed_chats_logprobs_come_with_their_text(stack: Stack, client: Client, stop: str | None) -> None:
    """Also where text is held back."""
    token_ids = stack.says(TEXT)
    stream = await client.chat.completions.create(
        model=CHAT, messages=HELLO, logprobs=True, top_logprobs=1, stream=True, stop=stop
    )
    choices = [chunk.choices[0] async for chunk in stream]
    num_entries, text, spelled = 0, "", b""
    for choice in choices:
        entries = choice.logprobs.content if choice.logprobs else []
        num_entries += len(entries)
        text += choice.delta.content or ""
        spelled += check_chat_entries(entries, 1).removesuffix(EOS.encode())
        # Of a token that may begin a stop string in its middle, a part is out already.
        assert text.encode() == spelled or (stop and text.encode().startswith(spelled))
    assert text.encode() == spelled
    assert num_entries == len(token_ids)
    assert len(choices) > 4


async def test_nobody_gets_logprobs_who_did_not_ask(stack: Stack, client: Client) -> None:
    stack.says("fox")
    answer = await client.chat.completions.create(model=CHAT, messages=HELLO, logprobs=False, top_logprobs=0)
    assert answer.choices[0].logprobs is None
    text = await client.completions.create(model=BASE, prompt="x")
    assert text.choices[0].logprobs is None
    for submit in await stack.worker.wait_for(Submit, 2):
        assert (submit.sampling.num_logprobs, submit.sampling.num_prompt_logprobs) == (None, None)


async def test_a_stop_string_ends_with_the_logprobs_of_all_that_was_drawn(stack: Stack, client: Client) -> None:
    stack.says("The quick brown fox jumps", ends=False)
    answer = await client.chat.completions.create(model=CHAT, messages=HELLO, logprobs=True, stop="own f")
    assert answer.choices[0].message.content == "The quick br"
    entries = answer.choices[0].logprobs.content
    assert len(entries) == answer.usage.completion_tokens
    assert check_chat_entries(entries, 0).startswith(b"The quick brown f")


async def test_logprobs_survive_lost_frames_and_a_lost_worker(stack: Stack, client: Client) -> None:
    stack.worker.reset()
    asked = {"model": CHAT, "messages": HELLO, "logprobs": True, "stream": True}
    asking = asyncio.create_task(client.chat.completions.create(**asked))
    [submit] = await stack.worker.wait_for(Submit)
    quick, brown, fox = encode("quick"), encode(" brown"), encode(" fox")
    await stack.worker.say(submit.request_id, *quick)
    stack.worker.lose(submit.request_id, *brown)
    await stack.worker.say(submit.request_id, *fox)
    [resend] = await stack.worker.wait_for(Resend)
    assert resend.first == len(quick)
    stream, text, spelled = await asking, "", b""
    async for chunk in stream:
        choice = chunk.choices[0]
        text += choice.delta.content or ""
        spelled += check_chat_entries(choice.logprobs.content if choice.logprobs else [], 0)
        if text == "quick brown fox" and not choice.finish_reason:
            await stack.worker.die()
            again = (await stack.worker.wait_for(Submit, 2))[1]
            assert list(again.output) == [*quick, *brown, *fox]
            await stack.worker.say(submit.request_id, EOS_ID, ended=Ended("stop"))
    assert spelled == f"quick brown fox{EOS}".encode()


# --- log-probabilities of a completion ----------------------------------------------------------


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


# --- what steers ---------------------------------------------------------------------------------


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
        ({"extra_body": {"prompt_logprobs": 1}}, "prompt_logprobs"),
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
    ],
)
async def test_a_chats_own_refusals(client: Client, asked: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model=CHAT, messages=HELLO, **asked)
    assert caught.value.param == param


async def test_a_request_has_64_choices_at_most(stack: Stack, client: Client) -> None:
    stack.says("fox")
    answer = await client.completions.create(model=BASE, prompt=["x"] * 16, n=4, max_tokens=1)
    assert len(answer.choices) == 64
    with pytest.raises(openai.BadRequestError, match="got 68") as caught:
        await client.completions.create(model=BASE, prompt=["x"] * 17, n=4)
    assert caught.value.param == "n"


async def test_a_prompt_that_fills_the_context_but_for_one_token_can_be_scored(stack: Stack, client: Client) -> None:
    stack.says("fox")
    prompt = [5] * (CONTEXT_LENGTH - 1)
    answer = await client.completions.create(model=BASE, prompt=prompt, echo=True, logprobs=0, max_tokens=0)
    assert len(answer.choices[0].logprobs.tokens) == len(prompt)
