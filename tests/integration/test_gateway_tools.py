"""Tools and reasoning as the openai client sees them."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any, Final

import openai
import pytest
import pytest_asyncio

from shared.client import KottosClient
from shared.config import BusConfig
from shared.messages import ChatMessage, ChatOptions, Submit, Tool, ToolCallPiece
from tests.integration.gateway_harness import Stack, serving
from tests.integration.tool_models import LLAMA, MISTRAL, NAMES, QWEN, R1, make_tool_config, tokenizer
from tests.unit.gateway.tiny_models import EOS_ID

pytestmark = pytest.mark.asyncio(loop_scope="module")
Client = Any  # AsyncOpenAI, whose overloads know neither plain dicts nor vLLM's fields

WEATHER: Final = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "strict": True,
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
ASKED: Final = [{"role": "user", "content": "Paris?"}]
PARIS: Final = '{"city": "Paris \u2600"}'
CALLS: Final = {
    QWEN: f'<tool_call>\n{{"name": "get_weather", "arguments": {PARIS}}}\n</tool_call>',
    MISTRAL: f'[TOOL_CALLS] [{{"name": "get_weather", "arguments": {PARIS}}}]',
    LLAMA: f'<|python_tag|>{{"name": "get_weather", "parameters": {PARIS}}}',
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with serving(make_tool_config(tmp_path_factory.mktemp("gateway")), NAMES) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def client(stack: Stack) -> AsyncIterator[Client]:
    async with stack.client() as opened:
        yield opened


def says(stack: Stack, model: str, text: str) -> int:
    """From now on every request is answered with this text. Returns its number of tokens."""
    token_ids = [*tokenizer(model).encode(text, add_special_tokens=False).ids, EOS_ID]
    stack.worker.reset(lambda submit: token_ids)
    return len(token_ids)


async def prompt_of_last(stack: Stack, model: str) -> str:
    submits = await stack.worker.wait_for(Submit)
    return tokenizer(model).decode(submits[-1].prompt, skip_special_tokens=False)


# --- calls --------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", CALLS)
async def test_a_call(stack: Stack, client: Client, model: str) -> None:
    says(stack, model, CALLS[model])
    answer = await client.chat.completions.create(model=model, messages=ASKED, tools=[WEATHER])
    [choice] = answer.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    [call] = choice.message.tool_calls
    assert (call.type, call.function.name, call.function.arguments) == ("function", "get_weather", PARIS)
    assert re.fullmatch(r"[A-Za-z0-9]{9}" if model == MISTRAL else r"call_[A-Za-z0-9]{24}", call.id)
    assert '"name": "get_weather"' in await prompt_of_last(stack, model)


@pytest.mark.parametrize("model", CALLS)
async def test_a_streamed_call(stack: Stack, client: Client, model: str) -> None:
    says(stack, model, CALLS[model])
    stream = await client.chat.completions.create(model=model, messages=ASKED, tools=[WEATHER], stream=True)
    choices = [chunk.choices[0] async for chunk in stream]
    pieces = [piece for choice in choices for piece in choice.delta.tool_calls or ()]
    head, *rest = pieces
    assert (head.index, head.type, head.function.name, head.function.arguments) == (0, "function", "get_weather", "")
    assert head.id
    assert all((piece.index, piece.id, piece.type, piece.function.name) == (0, None, None, None) for piece in rest)
    assert "".join(piece.function.arguments for piece in rest) == PARIS
    assert len(rest) > 3  # as they come
    assert not any(choice.delta.content for choice in choices)
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["tool_calls"]


async def test_content_and_several_calls(stack: Stack, client: Client) -> None:
    says(stack, QWEN, f"Both.\n{CALLS[QWEN]}\n{CALLS[QWEN]}")
    asked = {"model": QWEN, "messages": ASKED, "tools": [WEATHER]}
    answer = await client.chat.completions.create(**asked)
    assert answer.choices[0].message.content == "Both."
    first, second = answer.choices[0].message.tool_calls
    assert first.id != second.id and first.function == second.function
    async with client.chat.completions.stream(**asked) as stream:  # the client's own putting together
        final = await stream.get_final_completion()
    message = final.choices[0].message
    assert message.content == "Both."
    assert [call.function.arguments for call in message.tool_calls] == [PARIS, PARIS]
    one = await client.chat.completions.create(**asked, parallel_tool_calls=False)
    assert len(one.choices[0].message.tool_calls) == 1
    assert one.choices[0].finish_reason == "tool_calls"


async def test_what_is_no_call_is_content(stack: Stack, client: Client) -> None:
    text = '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>'
    says(stack, QWEN, text)
    answer = await client.chat.completions.create(model=QWEN, messages=ASKED, tools=[WEATHER])
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (text, "stop")
    assert answer.choices[0].message.tool_calls is None


async def test_no_tool_may_be_called(stack: Stack, client: Client) -> None:
    says(stack, QWEN, CALLS[QWEN])
    answer = await client.chat.completions.create(model=QWEN, messages=ASKED, tools=[WEATHER], tool_choice="none")
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (CALLS[QWEN], "stop")
    assert "get_weather" not in await prompt_of_last(stack, QWEN)


NAMED: Final = {"type": "function", "function": {"name": "get_weather"}}


@pytest.mark.parametrize("tool_choice", ["required", NAMED])
@pytest.mark.parametrize("model", CALLS)
async def test_a_call_is_required(stack: Stack, client: Client, model: str, tool_choice: Any) -> None:
    says(stack, model, CALLS[model])
    answer = await client.chat.completions.create(model=model, messages=ASKED, tools=[WEATHER], tool_choice=tool_choice)
    assert answer.choices[0].finish_reason == "tool_calls"
    [submit] = await stack.worker.wait_for(Submit)
    assert "get_weather" in submit.sampling.grammar
    await client.chat.completions.create(model=model, messages=ASKED, tools=[WEATHER], tool_choice="auto")
    assert (await stack.worker.wait_for(Submit, 2))[1].sampling.grammar == ""


async def test_a_schema_that_can_not_be_kept(stack: Stack, client: Client) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "minProperties": "x"}}}
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model=QWEN, messages=ASKED, tools=[tool], tool_choice="required")
    assert caught.value.param == "tools"


@pytest.mark.parametrize("model", CALLS)
async def test_the_result_of_a_call_goes_back(stack: Stack, client: Client, model: str) -> None:
    says(stack, model, CALLS[model])
    answer = await client.chat.completions.create(model=model, messages=ASKED, tools=[WEATHER])
    message = answer.choices[0].message
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"}
    says(stack, model, "It is sunny.")
    answer = await client.chat.completions.create(model=model, messages=[*ASKED, message, result], tools=[WEATHER])
    assert answer.choices[0].message.content == "It is sunny."
    prompt = await prompt_of_last(stack, model)
    shown = {
        QWEN: ['<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris', "<tool_response>\nsunny\n"],
        MISTRAL: ['[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris', '"call_id": "'],
        LLAMA: ['{"name": "get_weather", "parameters": {"city": "Paris', "sunny"],
    }[model]
    assert [text for text in shown if text not in prompt] == []


async def test_a_call_of_another_server_that_the_template_refuses(stack: Stack, client: Client) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    messages = [*ASKED, {"role": "assistant", "content": None, "tool_calls": [call]}]
    with pytest.raises(openai.BadRequestError, match="alphanumeric strings with length 9"):
        await client.chat.completions.create(model=MISTRAL, messages=messages)


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"model": R1, "tools": [WEATHER]}, "tools"),
        ({"model": QWEN, "tools": [WEATHER, WEATHER]}, "tools[1].function.name"),
        ({"model": QWEN, "tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"model": QWEN, "tools": [WEATHER], "tool_choice": "perhaps"}, "tool_choice"),
        ({"model": QWEN, "tool_choice": "required"}, "tool_choice"),
        ({"model": QWEN, "extra_body": {"chat_template_kwargs": {"chat_template": "x"}}}, "messages"),
        ({"model": QWEN, "extra_body": {"chat_template_kwargs": {"messages": []}}}, "messages"),
    ],
)
async def test_refusals_name_the_field(stack: Stack, client: Client, asked: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(messages=ASKED, **asked)
    assert caught.value.param == param


# --- reasoning ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "text"), [(QWEN, "<think>\nA city.\n</think>\n\nYes."), (R1, "A city.\n</think>Yes.")]
)
async def test_reasoning_is_apart_from_content(stack: Stack, client: Client, model: str, text: str) -> None:
    num_tokens = says(stack, model, text)
    answer = await client.chat.completions.create(model=model, messages=ASKED)
    message = answer.choices[0].message
    assert (message.reasoning, message.reasoning_content, message.content) == ("A city.", "A city.", "Yes.")
    num_reasoning = answer.usage.completion_tokens_details.reasoning_tokens
    assert num_tokens > num_reasoning > num_tokens / 2
    stream = await client.chat.completions.create(model=model, messages=ASKED, stream=True)
    deltas = [chunk.choices[0].delta async for chunk in stream]
    reasoning = [delta.reasoning_content for delta in deltas if getattr(delta, "reasoning_content", None)]
    assert "".join(reasoning) == "A city." and len(reasoning) > 2
    assert "".join(delta.content or "" for delta in deltas) == "Yes."


async def test_reasoning_goes_back_and_can_be_turned_off(stack: Stack, client: Client) -> None:
    says(stack, QWEN, "Yes.")
    messages = [*ASKED, {"role": "assistant", "content": "Yes.", "reasoning_content": "A city."}, *ASKED]
    turned_off = {"chat_template_kwargs": {"enable_thinking": False}}
    answer = await client.chat.completions.create(model=QWEN, messages=messages, extra_body=turned_off)
    assert answer.choices[0].message.content == "Yes."
    assert answer.usage.completion_tokens_details is None
    prompt = await prompt_of_last(stack, QWEN)
    assert "<think>\nA city.\n</think>\n\nYes.<|im_end|>" in prompt
    assert prompt.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


async def test_reasoning_and_a_call(stack: Stack, client: Client) -> None:
    says(stack, QWEN, f"<think>\nI ask.\n</think>\n\n{CALLS[QWEN]}")
    answer = await client.chat.completions.create(model=QWEN, messages=ASKED, tools=[WEATHER])
    message = answer.choices[0].message
    assert (message.reasoning_content, message.content) == ("I ask.", None)
    assert json.loads(message.tool_calls[0].function.arguments) == json.loads(PARIS)


# --- rendering ----------------------------------------------------------------------------------


async def test_the_last_message_is_continued(stack: Stack, client: Client) -> None:
    says(stack, QWEN, "is sunny.")
    messages = [*ASKED, {"role": "assistant", "content": "Paris"}]
    await client.chat.completions.create(model=QWEN, messages=messages, extra_body={"continue_final_message": True})
    assert (await prompt_of_last(stack, QWEN)).endswith("<|im_start|>assistant\nParis")


async def test_no_generation_prompt(stack: Stack, client: Client) -> None:
    says(stack, QWEN, "x")
    await client.chat.completions.create(model=QWEN, messages=ASKED, extra_body={"add_generation_prompt": False})
    assert (await prompt_of_last(stack, QWEN)).endswith("<|im_start|>user\nParis?<|im_end|>\n")


# --- the second front ---------------------------------------------------------------------------


async def test_tools_over_the_bus(stack: Stack) -> None:
    says(stack, QWEN, f"<think>Hm.</think>Look.{CALLS[QWEN]}")
    options = ChatOptions(tools=(Tool("get_weather"),))
    chat = [ChatMessage("user", "Paris?")]
    async with KottosClient(BusConfig(), bus=stack.broker.connect("client")) as client:
        pieces = [piece async for piece in client.generate(QWEN, chat=chat, chat_options=options)]
    assert "".join(piece.reasoning for piece in pieces) == "Hm."
    assert "".join(piece.text for piece in pieces) == "Look."
    head, *rest = [call for piece in pieces for call in piece.tool_calls]
    assert head == ToolCallPiece(0, id=head.id, name="get_weather") and head.id
    assert "".join(call.arguments for call in rest) == PARIS
    assert pieces[-1].finish_reason == "tool_calls"
