"""`kottos` against a real gateway, whose worker says what a test tells it to."""

import asyncio
import os
import socket
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from cli.address import Address
from cli.chat.session import Asked, ChatSession
from cli.chat.show import Silent
from cli.exit_codes import ExitCode
from cli.gateway_client import GatewayClient
from cli.steward import Steward
from shared.catalogue import described
from shared.config import API_KEY_VARIABLE, ModelSource
from shared.messages import Cancel, Ended, Submit
from tests.command_line import kottos
from tests.integration.gateway_harness import ASLEEP, BASE, CHAT, Stack, encode, make_key, open_stack
from tests.integration.scripted_worker import WORKER
from tests.integration.told_timeline import MIB, tell_timeline
from tests.unit.gateway.tiny_models import byte_level

ADMIN_KEY, OTHER_KEY = "sk-kottos-admin-0123456789", "sk-kottos-other-0123456789"


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("command-line")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opened(folder: Path) -> AsyncIterator[Stack]:
    async with open_stack(folder) as opened:
        await tell_timeline(opened)
        yield opened


@pytest.fixture
def stack(opened: Stack) -> Stack:
    opened.worker.reset()
    return opened


async def ask(stack: Stack, *arguments: str, stdin: str = "", code: ExitCode = ExitCode.FINE) -> str:
    """What it prints. Errors are one line."""
    ended = await kottos(*arguments, "--url", stack.url, stdin=stdin)
    assert ended.code == code, ended
    if code is not ExitCode.FINE:
        assert ended.err.count("\n") == 1 and ended.err.startswith("kottos: "), ended.err
        return ended.err
    return ended.out


# --- what the fleet does --------------------------------------------------------------------------


async def test_workers_and_requests_are_told(stack: Stack) -> None:
    ended = await kottos("workers", "--json", "--url", stack.url)
    [worker] = ended.json
    assert (worker["id"], worker["draining"]) == (WORKER, False)
    assert [(model["id"], model["state"]) for model in worker["models"]] == [(CHAT, "resident"), (BASE, "resident")]
    assert WORKER in await ask(stack, "workers")

    assert (await kottos("requests", "--json", "--url", stack.url)).json == []
    chatting = asyncio.create_task(chat(stack))
    [submit] = await stack.worker.wait_for(Submit)
    [request] = (await kottos("requests", "--json", "--url", stack.url)).json
    assert (request["request_id"], request["model"], request["tenant"]) == (submit.request_id, CHAT, "local")
    assert submit.request_id in await ask(stack, "requests")
    await stack.worker.say(submit.request_id, *encode("x"), ended=Ended("stop"))
    await chatting


async def chat(stack: Stack) -> None:
    async with stack.client() as client:
        await client.chat.completions.create(model=CHAT, messages=[{"role": "user", "content": "hi"}])


async def test_top_tells_the_state_once(stack: Stack) -> None:
    ended = await kottos("top", "--once", "--json", "--url", stack.url)
    state = ended.json
    assert state["type"] == "state" and {model["model"] for model in state["models"]} == {CHAT, BASE, ASLEEP}
    [worker] = state["workers"]
    assert (worker["worker"], worker["policy"]) == (WORKER, "deadline")
    assert worker["device"] == {"total_bytes": 8 * MIB, "models": {CHAT: 3 * MIB, BASE: MIB}}


async def test_top_wants_a_terminal_or_one_look(stack: Stack) -> None:
    ended = await kottos("top", "--url", stack.url)
    assert ended.code == ExitCode.USAGE and "--once" in ended.err


@asynccontextmanager
async def stewarded(stack: Stack, folder: Path) -> AsyncIterator[None]:
    """Somebody keeps what is changed."""
    models = described([ModelSource(name, str(folder / "sources" / name)) for name in (CHAT, BASE, ASLEEP)])
    running = asyncio.create_task(Steward(stack.broker.connect("steward"), models).run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_a_worker_is_drained_and_resumed(stack: Stack, folder: Path) -> None:
    async with stewarded(stack, folder):
        drained = await kottos("drain", WORKER, "--json", "--url", stack.url)
        assert drained.json == {"id": WORKER, "draining": True, "num_sequences": None}
        assert "still" in await ask(stack, "drain", WORKER, "--wait", "--timeout", "0.1", code=ExitCode.FAILED)
        assert await ask(stack, "drain", WORKER, "--undo") == f"{WORKER} takes work again\n"
        assert "no such worker" in await ask(stack, "drain", "nobody", code=ExitCode.FAILED)
    ended = await kottos("drain", WORKER, "--undo", "--wait", "--url", stack.url)
    assert ended.code == ExitCode.USAGE


# --- chat -----------------------------------------------------------------------------------------


async def test_a_question_has_an_answer(stack: Stack) -> None:
    stack.says("fox and dog")
    assert (
        await ask(stack, "chat", CHAT, "what", "jumps?", "--temperature", "0", "--max-tokens", "40") == "fox and dog\n"
    )
    [submit] = await stack.worker.wait_for(Submit)
    assert (submit.sampling.temperature, submit.sampling.max_tokens) == (0.0, 40)
    assert prompt_of(submit) == "<bos>user: what jumps?\nassistant:"

    stack.says("fox")
    answer = (await kottos("chat", CHAT, "--json", "--system", "be short", "--url", stack.url, stdin="piped\n")).json
    assert (answer["model"], answer["content"], answer["finish_reason"]) == (CHAT, "fox", "stop")
    assert answer["usage"]["completion_tokens"] == len(encode("fox")) + 1 and answer["ttft_s"] > 0
    [submit] = await stack.worker.wait_for(Submit)
    assert prompt_of(submit) == "<bos>system: be short\nuser: piped\nassistant:"


def prompt_of(submit: Submit) -> str:
    return byte_level().decode(list(submit.prompt), skip_special_tokens=False)


async def test_how_fast_it_came_is_said_beside_it(stack: Stack) -> None:
    stack.says("fox and dog")
    ended = await kottos("chat", CHAT, "hi", "--stats", "--url", stack.url)
    assert ended.out == "fox and dog\n" and "first token after" in ended.err and "tokens/s" in ended.err


async def test_what_is_piped_goes_where_the_dash_is(stack: Stack) -> None:
    stack.says("fox")
    await ask(stack, "chat", CHAT, "sum up:", "-", stdin="a text\n")
    [submit] = await stack.worker.wait_for(Submit)
    assert prompt_of(submit) == "<bos>user: sum up: \n\na text\nassistant:"


async def test_nothing_to_say_is_a_usage_error(stack: Stack) -> None:
    ended = await kottos("chat", CHAT, "--url", stack.url)
    assert ended.code == ExitCode.USAGE and "nothing to say" in ended.err


# --- how it ends ----------------------------------------------------------------------------------


async def test_who_asks_for_what_is_not_there_is_told(stack: Stack) -> None:
    assert "nobody" in await ask(stack, "chat", "nobody", "hi", code=ExitCode.FAILED)
    assert "/v1/completions" in await ask(stack, "chat", BASE, "hi", code=ExitCode.FAILED)


@pytest.mark.parametrize("command", ["workers", "requests", "top --once", "chat m hi", "drain w", "models load m"])
async def test_where_nobody_answers_the_status_says_so(command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    ended = await kottos(*command.split(), "--url", f"http://127.0.0.1:{port}")
    assert ended.code == ExitCode.UNREACHABLE and str(port) in ended.err and ended.err.count("\n") == 1


async def test_keys_are_sent_and_their_lack_has_a_status(tmp_path: Path) -> None:
    make_key(tmp_path, "admin", ADMIN_KEY, is_admin=True)
    make_key(tmp_path, "other", OTHER_KEY)
    key_file = tmp_path / "key"
    key_file.write_text(ADMIN_KEY)
    async with open_stack(tmp_path) as stack:
        refused = await ask(stack, "workers", code=ExitCode.REFUSED)
        assert "--api-key-file" in refused
        assert WORKER in await ask(stack, "workers", "--api-key-file", str(key_file))
        environ = {API_KEY_VARIABLE: OTHER_KEY}
        ended = await kottos("workers", "--url", stack.url, environ=environ)
        assert ended.code == ExitCode.REFUSED and "administrator" in ended.err and OTHER_KEY not in ended.err
        stack.says("fox")
        assert (await kottos("chat", CHAT, "hi", "--url", stack.url, environ=environ)).out == "fox\n"


# --- completion -----------------------------------------------------------------------------------


async def completed(line: str, **environ: str) -> list[str]:
    """What bash is offered at the end of this line."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1), "_KOTTOS_COMPLETE": "complete_bash"}
    kottos = Path(sysconfig.get_path("scripts")) / "kottos"
    process = await asyncio.create_subprocess_exec(
        kottos, env={**os.environ, **words, **environ}, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    return said.decode().split()


async def test_a_shell_completes_what_the_gateway_knows(stack: Stack) -> None:
    assert await completed("kottos chat ", KOTTOS_URL=stack.url) == [CHAT, BASE, ASLEEP]
    assert await completed(f"kottos drain --url {stack.url} w") == [WORKER]
    assert "drain" in await completed("kottos dr")
    assert await completed("kottos chat ", KOTTOS_URL="http://127.0.0.1:1") == []


# --- load -----------------------------------------------------------------------------------------


async def test_load_is_put_on_a_server_and_measured(stack: Stack) -> None:
    stack.worker.reset(lambda submit: encode("x") * 99)
    arguments = ("--requests", "6", "--concurrency", "3", "--prompt-words", "2-4", "--output-tokens", "5")
    seen = (await kottos("bench", "serve", CHAT, BASE, *arguments, "--json", "--url", stack.url)).json
    models = [(model["model"], model["num_requests"], model["num_failed"]) for model in seen["models"]]
    assert models == [(BASE, 3, 0), (CHAT, 3, 0)], seen
    assert seen["all"]["num_output_tokens"] == 30 and seen["all"]["attainment"] == 1.0
    assert 0 < seen["all"]["ttft_s"]["p50"] <= seen["all"]["e2e_s"]["p99"]
    shown = await ask(stack, "bench", "serve", CHAT, "--api", "chat", "--rate", "200", *arguments)
    assert CHAT in shown and "100.0%" in shown
    failed = await kottos("bench", "serve", "nobody", *arguments, "--json", "--url", stack.url)
    assert failed.code == ExitCode.FAILED and failed.json["all"]["errors"] == {"404 model_not_found": 6}


async def test_leaving_a_chat_cancels_it(stack: Stack) -> None:
    async with GatewayClient(Address(stack.url)) as client:
        session = ChatSession(client, CHAT, Asked())
        saying = asyncio.create_task(session.say("hi", Silent()))
        await stack.worker.wait_for(Submit)
        saying.cancel()
        await asyncio.wait([saying])
    await stack.worker.wait_for(Cancel)
