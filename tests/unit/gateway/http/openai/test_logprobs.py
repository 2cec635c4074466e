"""Entries of log-probabilities. What they look like in answers is in test_gateway_sampling.py."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.openai.logprobs import TextLog, chat_logprobs, prompt_logprobs
from shared.messages import TokenLogprobs
from tests.unit.gateway.tiny_models import BOS, BOS_ID, EOS, EOS_ID, byte_fallback, byte_level, vocabulary

LEVEL = vocabulary(byte_level())


def ids(text: str) -> list[int]:
    return byte_level().encode(text, add_special_tokens=False).ids


def entries(*token_ids: int) -> list[TokenLogprobs]:
    return [TokenLogprobs(token_id, -1.0) for token_id in token_ids]


def test_a_token_that_is_a_part_of_a_character_is_named_by_its_bytes() -> None:
    parts = ids("\u9f98")
    assert len(parts) > 1
    logprobs = chat_logprobs(entries(*parts, *ids("fox")), LEVEL)
    assert logprobs is not None
    assert b"".join(bytes(entry.bytes) for entry in logprobs.content) == "\u9f98fox".encode()
    assert logprobs.content[0].token == "".join(f"\\x{byte:02x}" for byte in logprobs.content[0].bytes)
    assert TextLog(LEVEL, ()).written(entries(*parts)).tokens[0] == f"bytes:{logprobs.content[0].token}"


def test_an_impossible_token_has_a_number_that_json_knows() -> None:
    entry = TokenLogprobs(5, -math.inf, (6, 5), (0.0, -math.inf))
    chat, text = chat_logprobs([entry], LEVEL), TextLog(LEVEL, ()).written([entry])
    assert msgspec.json.decode(msgspec.json.encode(chat))["content"][0]["logprob"] == -9999.0
    assert text.token_logprobs == (-9999.0,)
    assert sorted((text.top_logprobs[0] or {}).values()) == [-9999.0, 0.0]


def test_a_token_is_always_among_those_that_are_named() -> None:
    entry = TokenLogprobs(ids("x")[0], -3.0, tuple(ids("fox")[:1]), (-0.5,))
    (top,) = TextLog(LEVEL, ()).written([entry]).top_logprobs
    assert top == {"x": -3.0, byte_level().decode(ids("fox")[:1]): -0.5}


@given(st.text(max_size=15), st.text(max_size=15))
def test_offsets_say_where_a_tokens_text_begins(prompt: str, output: str) -> None:
    prompt_ids, output_ids = (BOS_ID, *ids(f"x{prompt}")), ids(output)
    text = byte_level().decode([*prompt_ids, *output_ids])
    log = TextLog(LEVEL, (), echo=f"x{prompt}")
    echoed = log.echoed(prompt_ids, entries(*prompt_ids[1:]))
    written = log.written(entries(*output_ids))
    offsets = echoed.text_offset + written.text_offset
    tokens = echoed.tokens + written.tokens
    assert (offsets[0], tokens[0]) == (0, BOS)
    assert list(offsets) == sorted(offsets)
    for token, offset in zip(tokens[1:], offsets[1:], strict=True):
        assert token.startswith("bytes:") or text[offset : offset + len(token)] == token


def test_a_special_token_counts_where_the_client_spelled_it() -> None:
    spelled = TextLog(LEVEL, (), echo=f"x{EOS}x").echoed((*ids("x"), EOS_ID), entries(EOS_ID, *ids("x")))
    assert spelled.text_offset == (0, 1, 1 + len(EOS))
    added = TextLog(LEVEL, (), echo="xx").echoed((*ids("x"), EOS_ID), entries(EOS_ID, *ids("x")))
    assert added.text_offset == (0, 1, 1)


@pytest.mark.parametrize("context", [(), tuple(byte_fallback().encode("a").ids)])
def test_a_leading_space_is_text_behind_a_prompt_and_none_at_the_beginning(context: tuple[int, ...]) -> None:
    tokens = byte_fallback().encode("b a", add_special_tokens=False).ids
    written = TextLog(vocabulary(byte_fallback()), context).written(entries(*tokens))
    assert written.text_offset == ((0, 2) if context else (0, 1))


def test_a_prompts_token_that_is_none_of_the_most_likely_has_no_rank() -> None:
    fox, dog = ids("fox")[0], ids("dog")[0]
    first, second = prompt_logprobs([TokenLogprobs(fox, -9.0, (dog,), (-0.1,))], LEVEL)
    assert first is None and second is not None
    assert [(token_id, entry.rank, entry.logprob) for token_id, entry in second.items()] == [
        (fox, None, -9.0), (dog, 1, -0.1)
    ]  # fmt: skip
