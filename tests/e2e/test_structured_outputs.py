"""JSON by many schemas from a real model at temperature 1, whose weights are copied in anew for every step."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from benchmarks.served import Served, serve
from shared.ids import ModelName
from tests.e2e.driving import BASE_MODEL, CHAT_MODEL, open_client
from tests.e2e.test_two_models import listening
from tests.schemas import Schema, make_schema

NUM_SCHEMAS = 100
MAX_TOKENS = 200  # no value of the schemas takes so many


@pytest.fixture(scope="module")
def switching_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One model fits the device at a time, and while both have work each step is the other one's."""
    settings = {
        "KOTTOS_WORKER_NUM_THREADS": "1",
        "KOTTOS_WORKER_POLICY": "round-robin",
        "KOTTOS_WORKER_TURN_STEPS": "1",
    }
    log = tmp_path_factory.mktemp("switching_stack") / "log"
    with serve("--demo", "--device-memory", "900MiB", log_path=log, settings=settings) as served:
        yield served


async def fill_in(client: Any, schema: Schema, seed: int) -> tuple[str, int]:
    """-> the answer's text and how many tokens it took."""
    asked: dict[str, Any] = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
    answer = await client.chat.completions.create(
        model=CHAT_MODEL,
        messages=[{"role": "user", "content": "Invent something, as JSON."}],
        response_format=asked,
        temperature=1.0,
        seed=seed,
        max_tokens=MAX_TOKENS,
    )
    [choice] = answer.choices
    assert choice.finish_reason == "stop", f"schema {seed}: {choice.message.content}"
    assert choice.message.content is not None
    assert answer.usage is not None
    return choice.message.content, answer.usage.completion_tokens


async def test_outputs_of_many_schemas_are_valid_while_another_model_comes_in_at_every_step(
    switching_stack: Served,
) -> None:
    schemas = [make_schema(seed) for seed in range(NUM_SCHEMAS)]
    async with open_client(switching_stack) as one_try, listening(switching_stack) as events:
        client = one_try.with_options(max_retries=8, timeout=180)  # the gateway may still be reading a tokenizer
        other = await client.completions.create(
            model=BASE_MODEL, prompt="One, two,", max_tokens=4000, stream=True, extra_body={"ignore_eos": True}
        )
        await anext(aiter(other))
        num_before = len(events.switches())
        answers = await asyncio.gather(*(fill_in(client, schema, seed) for seed, schema in enumerate(schemas)))
        switches = events.switches()[num_before:]
        await other.close()
    for seed, (schema, (text, _)) in enumerate(zip(schemas, answers, strict=True)):
        try:
            jsonschema.validate(json.loads(text), schema, format_checker=jsonschema.FormatChecker())
        except (ValueError, jsonschema.ValidationError) as error:
            pytest.fail(f"schema {seed}, {json.dumps(schema)}: {text}: {error}")
    longest = max(num_tokens for _, num_tokens in answers)
    came_in = Counter(switch.model for switch in switches if switch.kind == "copied")
    num_turns = min(came_in[ModelName(CHAT_MODEL)], came_in[ModelName(BASE_MODEL)])
    assert num_turns >= longest - 1  # steps of the longest answer, but for the first one
    assert len({text for text, _ in answers}) > NUM_SCHEMAS // 2
