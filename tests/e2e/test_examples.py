"""The example scripts as their users run them: in a shell that has read the stack's client.env."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from shlex import quote

from openai import AsyncOpenAI

from benchmarks.served import Served
from tests.e2e.driving import BASE_MODEL, CHAT_MODEL, complete

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 60


async def run(served: Served, script: str, *arguments: str) -> tuple[int | None, str, str]:
    """Exit status, output, errors."""
    words = " ".join(quote(word) for word in (sys.executable, f"examples/{script}", *arguments))
    line = f"set -a; . {quote(str(served.client_env))}; exec {words}"
    process = await asyncio.create_subprocess_shell(line, cwd=ROOT, stdout=PIPE, stderr=PIPE)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode, output.decode(), errors.decode()


async def test_generate_completes_a_text(stack: Served, client: AsyncOpenAI) -> None:
    prompt = "The capital of France is"
    over_http = await complete(client, BASE_MODEL, prompt, max_tokens=8)
    status, output, errors = await run(
        stack, "generate.py", BASE_MODEL, prompt, "--max-tokens", "8", "--temperature", "0"
    )
    assert (status, errors) == (0, "")
    assert output == f"{over_http.text}\n[length: {len(over_http.prompt_token_ids)} + 8 tokens]\n"


async def test_generate_chats(stack: Served) -> None:
    question = "What is the capital of France?"
    status, output, errors = await run(stack, "generate.py", CHAT_MODEL, question, "--chat", "--temperature", "0")
    assert (status, errors) == (0, "")
    assert "Paris" in output and "\n[stop: " in output


async def test_generate_says_what_is_wrong(stack: Served) -> None:
    status, output, errors = await run(stack, "generate.py", "gpt-99", "Hello")
    assert (status, output) == (1, "")
    assert errors == "error: The model 'gpt-99' does not exist.\n"


async def test_watch_events_shows_requests_and_switches(stack: Served, client: AsyncOpenAI) -> None:
    watching = asyncio.create_task(run(stack, "watch_events.py", "--count", "4"))
    while not watching.done():  # events before it listens are nobody's
        for model in (BASE_MODEL, CHAT_MODEL):
            await complete(client, model, "Hello", max_tokens=1)
    status, output, errors = await watching
    assert (status, errors) == (0, "")
    events = {event["event"]: event for event in map(json.loads, output.splitlines())}
    assert set(events) == {"ModelSwitched", "RequestFinished"}
    finished, switched = events["RequestFinished"], events["ModelSwitched"]
    assert (finished["finish_reason"], finished["num_output_tokens"]) == ("length", 1)
    assert 0 < finished["ttft_s"] <= finished["total_s"]
    assert {switched["model"], switched["previous"]} == {BASE_MODEL, CHAT_MODEL}
