"""Log-probabilities of chats, as the openai client sees them."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from shared.messages import Ended, Resend, Submit
from tests.integration.gateway_harness import BASE, CHAT, Stack, encode
from tests.unit.gateway.tiny_models import EOS, EOS_ID

pytestmark = pytest.mark.asyncio(loop_scope="module")
Client = Any  # AsyncOpenAI, whose overloads know neither plain dicts nor vLLM's fields
HELLO = [{"role": "user", "content": "hello"}]
TEXT = "Grüße 🎉 done"


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
