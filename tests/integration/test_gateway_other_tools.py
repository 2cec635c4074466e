"""Tools and reasoning through Anthropic's and the Responses API, as their clients see them."""

import json
from collections.abc import AsyncIterator
from typing import Any, Final

import anthropic
import openai
import pytest
import pytest_asyncio

from shared.messages import Submit
from tests.integration.gateway_harness import Stack, serving
from tests.integration.tool_models import NAMES, QWEN, R1, make_tool_config, tokenizer
from tests.unit.gateway.tiny_models import EOS_ID

pytestmark = pytest.mark.asyncio(loop_scope="module")
Client = Any  # their overloads know no plain dicts

PARAMETERS: Final = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ASKED: Final = [{"role": "user", "content": "Paris?"}]
PARIS: Final = {"city": "Paris ☀"}
CALL: Final = f'<tool_call>\n{{"name": "get_weather", "arguments": {json.dumps(PARIS)}}}\n</tool_call>'
SAID: Final = f"<think>\nWhich?\n</think>\n\nBoth.\n{CALL}\n{CALL}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with serving(make_tool_config(tmp_path_factory.mktemp("gateway")), NAMES) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def anthropics(stack: Stack) -> AsyncIterator[Client]:
    async with anthropic.AsyncAnthropic(base_url=stack.url, api_key="none", max_retries=0, timeout=20) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def openais(stack: Stack) -> AsyncIterator[Client]:
    async with stack.client() as opened:
        yield opened


def says(stack: Stack, text: str, model: str = QWEN) -> None:
    """From now on every request is answered with this text."""
    token_ids = [*tokenizer(model).encode(text, add_special_tokens=False).ids, EOS_ID]
    stack.worker.reset(lambda submit: token_ids)


async def prompt_of_last(stack: Stack) -> str:
    submits = await stack.worker.wait_for(Submit)
    return tokenizer(QWEN).decode(submits[-1].prompt, skip_special_tokens=False)


# --- Anthropic's --------------------------------------------------------------------------------

WEATHER: Final = {"name": "get_weather", "description": "The weather of a city", "input_schema": PARAMETERS}


@pytest.mark.parametrize("is_stream", [False, True])
async def test_thinking_text_and_calls_are_blocks(stack: Stack, anthropics: Client, is_stream: bool) -> None:
    says(stack, SAID)
    asked = {"model": QWEN, "max_tokens": 500, "messages": ASKED, "tools": [WEATHER]}
    if is_stream:
        async with anthropics.messages.stream(**asked) as stream:
            answer = await stream.get_final_message()
    else:
        answer = await anthropics.messages.create(**asked)
    assert [block.type for block in answer.content] == ["thinking", "text", "tool_use", "tool_use"]
    thinking, text, first, second = answer.content
    assert (thinking.thinking, text.text) == ("Which?", "Both.")
    assert (first.name, first.input) == (second.name, second.input) == ("get_weather", PARIS)
    assert first.id != second.id
    assert answer.stop_reason == "tool_use"
    assert '"name": "get_weather"' in await prompt_of_last(stack)


async def test_a_streamed_calls_input_comes_in_pieces(stack: Stack, anthropics: Client) -> None:
    says(stack, CALL)
    events = [
        event
        async for event in await anthropics.messages.create(
            model=QWEN, max_tokens=500, messages=ASKED, tools=[WEATHER], stream=True
        )
    ]
    [start] = [event for event in events if event.type == "content_block_start"]
    assert (start.content_block.name, start.content_block.input) == ("get_weather", {})
    pieces = [event.delta.partial_json for event in events if event.type == "content_block_delta"]
    assert json.loads("".join(pieces)) == PARIS
    assert len(pieces) > 3  # as they come


async def test_results_of_tools_go_back(stack: Stack, anthropics: Client) -> None:
    says(stack, SAID)
    asked: dict[str, Any] = {"model": QWEN, "max_tokens": 500, "tools": [WEATHER]}
    answer = await anthropics.messages.create(**asked, messages=ASKED)
    uses = [block for block in answer.content if block.type == "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": use.id, "content": f"sunny {use.name}"} for use in uses]
    says(stack, "It is sunny.")
    turns = [*ASKED, {"role": "assistant", "content": answer.content}, {"role": "user", "content": results}]
    answer = await anthropics.messages.create(**asked, messages=turns)
    assert answer.content[0].text == "It is sunny."
    prompt = await prompt_of_last(stack)
    assert "<think>\nWhich?\n</think>" in prompt
    assert prompt.count("<tool_response>\nsunny get_weather\n") == 2
    counted = await anthropics.messages.count_tokens(model=QWEN, messages=turns, tools=[WEATHER])
    assert counted.input_tokens == answer.usage.input_tokens


async def test_an_answer_that_was_begun_is_gone_on_with(stack: Stack, anthropics: Client) -> None:
    says(stack, "B)")
    turns = [*ASKED, {"role": "assistant", "content": "The best is ("}]
    answer = await anthropics.messages.create(model=QWEN, max_tokens=50, messages=turns)
    assert answer.content[0].text == "B)"
    assert (await prompt_of_last(stack)).endswith("The best is (")


async def test_thinking_can_be_switched_off_where_the_template_can(stack: Stack, anthropics: Client) -> None:
    says(stack, "B)")
    await anthropics.messages.create(model=QWEN, max_tokens=50, messages=ASKED, thinking={"type": "disabled"})
    assert (await prompt_of_last(stack)).endswith("<think>\n\n</think>\n\n")


@pytest.mark.parametrize(
    "asked",
    [
        {"model": R1, "tools": [WEATHER]},
        {"model": QWEN, "tools": [WEATHER, WEATHER]},
        {"model": QWEN, "tools": [WEATHER], "tool_choice": {"type": "tool", "name": "other"}},
    ],
)
async def test_tools_that_cant_be(anthropics: Client, asked: dict[str, Any]) -> None:
    with pytest.raises(anthropic.BadRequestError, match="tool"):
        await anthropics.messages.create(max_tokens=5, messages=ASKED, **asked)


# --- Responses ----------------------------------------------------------------------------------

FUNCTION: Final = {"type": "function", "name": "get_weather", "parameters": PARAMETERS, "strict": True}


@pytest.mark.parametrize("is_stream", [False, True])
async def test_reasoning_text_and_calls_are_items(stack: Stack, openais: Client, is_stream: bool) -> None:
    says(stack, SAID)
    asked = {"model": QWEN, "input": "Paris?", "tools": [FUNCTION]}
    if is_stream:
        events = [event async for event in await openais.responses.create(**asked, stream=True)]
        arguments = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
        assert "".join(arguments) == json.dumps(PARIS, ensure_ascii=True) * 2
        answer = events[-1].response
    else:
        answer = await openais.responses.create(**asked)
    assert [item.type for item in answer.output] == ["reasoning", "message", "function_call", "function_call"]
    reasoning, message, first, second = answer.output
    assert (reasoning.content[0].text, message.content[0].text) == ("Which?", "Both.")
    assert first.name == second.name == "get_weather"
    assert json.loads(first.arguments) == json.loads(second.arguments) == PARIS
    assert first.call_id != second.call_id
    assert answer.status == "completed"
    assert answer.usage.output_tokens_details.reasoning_tokens > 0


async def test_outputs_of_functions_go_back(stack: Stack, openais: Client) -> None:
    says(stack, SAID)
    first = await openais.responses.create(model=QWEN, input=ASKED, tools=[FUNCTION])
    calls = [item for item in first.output if item.type == "function_call"]
    outputs = [{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"} for call in calls]
    says(stack, "It is sunny.")
    second = await openais.responses.create(model=QWEN, input=[*ASKED, *first.output, *outputs], tools=[FUNCTION])
    assert second.output_text == "It is sunny."
    prompt = await prompt_of_last(stack)
    assert "<think>\nWhich?\n</think>" in prompt
    assert prompt.count("<tool_response>\nsunny\n") == 2


async def test_tools_need_a_template_that_has_them(openais: Client) -> None:
    with pytest.raises(openai.BadRequestError, match="not supported by the chat template") as caught:
        await openais.responses.create(model=R1, input="Paris?", tools=[FUNCTION])
    assert caught.value.param == "tools"
