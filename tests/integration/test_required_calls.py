"""A model that has to call tools does, whatever it would rather say: a real worker with random weights."""

import json

import pytest

from benchmarks.tiny_models import BOS_ID, EOS_ID, make_tiny_tokenizer
from gateway.output.answer import Parts, whole_calls
from gateway.output.vocabulary import Vocabulary
from gateway.request.dialect import Dialect
from gateway.request.expected import ExpectedAnswer, expect
from gateway.text.child import spell
from gateway.tools.formats import HERMES, LLAMA, MISTRAL, MISTRAL_HEADS, PHI, ToolFormat
from shared.grammar import to_grammar
from shared.messages import ChatOptions, Tool
from tests.integration.tiny_models import TinyModels
from tests.integration.worker_harness import running_worker

TOOLS = (
    Tool(
        "turn", None, '{"properties":{"degrees":{"type":"integer","minimum":0,"maximum":359}},"required":["degrees"]}'
    ),
    Tool("stop", None, '{"properties":{},"additionalProperties":false}'),
)
PROMPT = [BOS_ID, *range(2, 20)]
NUM_TOKENS = 200
tokenizer = make_tiny_tokenizer()


def answer_of(form: ToolFormat, **options: object) -> ExpectedAnswer:
    asked = ChatOptions(tools=TOOLS, **options)  # type: ignore[arg-type]
    return expect(Dialect(form), asked, tuple(PROMPT), Vocabulary(spell(tokenizer.backend_tokenizer)), None)


def read(answer: ExpectedAnswer, token_ids: list[int]) -> Parts:
    reader = answer.open_reading().reader
    return reader.feed(tokenizer.backend_tokenizer.decode(token_ids), is_last=True)


@pytest.mark.parametrize(
    "form", [HERMES, MISTRAL, MISTRAL_HEADS, PHI, LLAMA], ids=lambda form: f"{form.name}-{form.style}"
)
async def test_what_comes_is_calls_and_nothing_else(tiny_models: TinyModels, form: ToolFormat) -> None:
    source = tiny_models.source("llama")
    named = answer_of(form, tool_choice="named", tool_name="turn")
    any_one = answer_of(form, tool_choice="required", parallel_tool_calls=False)
    async with running_worker(tiny_models.config([source])) as harness:
        for answer, names in ((named, {"turn"}), (any_one, {"turn", "stop"})):
            assert answer.constraint is not None
            grammar = to_grammar(answer.constraint.kind, answer.constraint.text)
            ids = [
                await harness.submit(
                    source.name,
                    PROMPT,
                    NUM_TOKENS,
                    grammar=grammar,
                    temperature=1.0,
                    seed=seed,
                    stop_token_ids=(EOS_ID,),
                )
                for seed in range(4)
            ]
            streams = [await harness.finish(request_id) for request_id in ids]
            for stream in streams:
                parts = read(answer, stream.tokens)
                assert parts.content == ""
                [call] = whole_calls(parts.tool_calls)
                assert call.name in names
                if stream.ended is not None and stream.ended.reason == "stop":
                    arguments = json.loads(call.arguments)
                    assert call.name == "stop" or 0 <= arguments["degrees"] < 360
            assert any(stream.ended is not None and stream.ended.reason == "stop" for stream in streams)
