"""What clients may ask their outputs to be, from the openai client to what a worker gets; text processes refuse."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import openai
import pytest
import pytest_asyncio
from pydantic import BaseModel

from gateway.text.jobs import Constrain, Constrained, Failed
from gateway.text.pool import TextPool
from gateway.text.process import TextProcess
from shared.client import KottosClient
from shared.config import BusConfig
from shared.errors import ErrorCode, RequestError
from shared.messages import GenerationParams, Submit
from shared.structured import GrammarKind, StructuredOutputs
from tests.integration.gateway_harness import BASE, CHAT, Stack
from tests.unit.gateway.tiny_models import write_text_assets

pytestmark = pytest.mark.asyncio(loop_scope="module")
Client = Any  # AsyncOpenAI, whose overloads know neither plain dicts nor vLLM's fields
HELLO = [{"role": "user", "content": "hello"}]
SCHEMA = {"type": "object", "properties": {"size": {"type": "integer"}}, "required": ["size"]}
SOON_S = 30.0


class Animal(BaseModel):
    name: str
    legs: int
    sound: Literal["woof", "meow"] | None


async def grammar_of(stack: Stack) -> str:
    """That the worker was to follow."""
    [submit] = await stack.worker.wait_for(Submit)
    return submit.sampling.grammar


# --- through the openai client ------------------------------------------------------------------


async def test_a_parsed_chat(stack: Stack, client: Client) -> None:
    stack.says('{"name": "dog", "legs": 4, "sound": "woof"}')
    answer = await client.chat.completions.parse(model=CHAT, messages=HELLO, response_format=Animal, max_tokens=64)
    assert answer.choices[0].message.parsed == Animal(name="dog", legs=4, sound="woof")
    assert "legs" in await grammar_of(stack)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ({"response_format": {"type": "json_object"}}, '"type":"object"'),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}},
            '"size"',
        ),
        ({"extra_body": {"structured_outputs": {"json": SCHEMA}}}, '"size"'),
        ({"extra_body": {"structured_outputs": {"regex": "[0-7]+"}}}, "[0-7]+"),
        ({"extra_body": {"structured_outputs": {"choice": ["tiny", "huge"]}}}, '"tiny" | "huge"'),
        ({"extra_body": {"structured_outputs": {"grammar": 'root ::= "x" "y"'}}}, "start:"),
        ({"extra_body": {"guided_choice": ["tiny", "huge"]}}, '"tiny" | "huge"'),
        ({"response_format": {"type": "text"}}, None),
    ],
)
async def test_what_is_asked_for_reaches_the_worker(
    stack: Stack, client: Client, asked: dict[str, Any], shown: str | None, stream: bool
) -> None:
    stack.says("{}")
    answer = await client.chat.completions.create(model=CHAT, messages=HELLO, stream=stream, **asked)
    if stream:
        assert [chunk async for chunk in answer]
    grammar = await grammar_of(stack)
    assert (shown in grammar) if shown else not grammar


async def test_completions_too(stack: Stack, client: Client) -> None:
    stack.says("5")
    await client.completions.create(model=BASE, prompt="lazy", extra_body={"structured_outputs": {"regex": "[0-9]"}})
    assert "[0-9]" in await grammar_of(stack)


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "nothing"}}}},
            "response_format.json_schema.schema",
        ),
        ({"extra_body": {"structured_outputs": {"json": {"not": {}}}}}, "structured_outputs.json"),
        ({"extra_body": {"structured_outputs": {"regex": "("}}}, "structured_outputs.regex"),
        ({"extra_body": {"structured_outputs": {"regex": r"(?=a)"}}}, "structured_outputs.regex"),
        ({"extra_body": {"structured_outputs": {"grammar": "start: nothing"}}}, "structured_outputs.grammar"),
        ({"extra_body": {"guided_choice": []}}, "structured_outputs.choice"),
    ],
)
async def test_refusals_come_before_any_worker_hears_of_it(
    stack: Stack, client: Client, asked: dict[str, Any], param: str
) -> None:
    stack.says("never")
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model=CHAT, messages=HELLO, **asked)
    assert caught.value.param == param
    assert not stack.worker.heard


async def test_the_second_front_has_it_too(stack: Stack) -> None:
    stack.says("7")
    params = GenerationParams(structured_outputs=StructuredOutputs(json=SCHEMA))
    async with KottosClient(BusConfig(), bus=stack.broker.connect("client")) as client:
        async for _ in client.generate(BASE, text="lazy", params=params):
            pass
        assert '"size"' in await grammar_of(stack)
        with pytest.raises(RequestError) as caught:
            bad = GenerationParams(structured_outputs=StructuredOutputs(regex="("))
            async for _ in client.generate(BASE, text="lazy", params=bad):
                pass
    assert caught.value.code is ErrorCode.INVALID_REQUEST


# --- the text processes -------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_text_assets(tmp_path)
    return tmp_path


@pytest_asyncio.fixture(loop_scope="module")
async def process() -> AsyncIterator[TextProcess]:
    async with TextProcess() as started:
        yield started


def long_chain() -> str:
    """Compiling it overflows the stack."""
    rules = [f"r{i}: r{i + 1} r{i + 1}" for i in range(3000)]
    return "\n".join(["start: r0", *rules, "r3000: /a/"])


def product_schema() -> str:
    """Small to write and large to compile."""
    options = [[{"properties": {f"{i}-{k}": {"type": "string"}}} for k in range(12)] for i in range(12)]
    return msgspec.json.encode({"type": "object", "allOf": [{"anyOf": each} for each in options]}).decode()


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("json", '{"type": "object", "properties": {"a": {"type": "string", "format": "no-such-format"}}}'),
        ("json", '{"$ref": "#/$defs/nothing"}'),
        ("json", product_schema()),
        ("grammar", "start: " + "(" * 20_000 + "/a/" + ")" * 20_000),
        ("grammar", long_chain()),
    ],
)
async def test_what_is_too_much_or_nonsense_is_refused(kind: GrammarKind, text: str, folder: Path) -> None:
    """Also where compiling it ends the process: the pool starts another one."""
    pool = TextPool(template_timeout_s=1.0, max_waiting=10, num_processes=1)
    async with pool.running():
        with pytest.raises(RequestError) as caught:
            await pool.constrain(folder, kind, text, "structured_outputs")
        assert (caught.value.code, caught.value.param) == (ErrorCode.INVALID_REQUEST, "structured_outputs")
        assert len(caught.value.message) < 600
        assert await pool.constrain(folder, "regex", "a+", "structured_outputs")


async def test_a_model_whose_tokenizer_cannot_be_guided(process: TextProcess, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    result = await process.perform(Constrain(str(tmp_path), "regex", "a"), SOON_S, SOON_S)
    assert isinstance(result, Failed)
    assert "tokenizer" in result.message


async def test_the_same_grammar_again(process: TextProcess, folder: Path) -> None:
    job = Constrain(str(folder), "json", msgspec.json.encode(SCHEMA).decode())
    first, second = [await process.perform(job, SOON_S, SOON_S) for _ in range(2)]
    assert isinstance(first, Constrained)
    assert first == second
