"""`kottos chat` and `kottos top` on a terminal, driven as by a person."""

import os
import sys
from pathlib import Path

from cli.exit_codes import ExitCode
from shared.messages import Cancel, Submit
from tests.integration.gateway_harness import BASE, CHAT, Stack, encode, open_stack
from tests.integration.scripted_worker import WORKER
from tests.integration.told_timeline import tell_timeline
from tests.terminal import Terminal, run_on_terminal


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from cli.main import main; main()", *arguments]


def environ(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KOTTOS_") and name != "NO_COLOR"}
    return kept | {"TERM": "xterm-256color", "HOME": str(folder)}


async def test_a_conversation(tmp_path: Path) -> None:
    async with open_stack(tmp_path) as stack:
        arguments = command("chat", CHAT, "--stats", "--url", stack.url)
        async with run_on_terminal(arguments, environ(tmp_path)) as terminal:
            await terminal.shows(f"{CHAT}>")
            stack.says("The quick fox\x1b[2J")
            terminal.type("who jumps?\n")
            await terminal.shows("who jumps?", "The quick fox[2J", "first token after")

            stack.says("the dog")
            terminal.type("over \\\nwhom?\n")
            await terminal.shows("the dog")
            [submit] = await stack.worker.wait_for(Submit)
            assert len(submit.prompt) > len(encode("user: who jumps? assistant: The quick fox user: over whom?"))

            await stop_an_answer(stack, terminal)

            stack.says("still here")
            terminal.type("and now?\n")
            await terminal.shows("still here")
            terminal.type("/nothing\n")
            await terminal.shows("there is no /nothing")
            terminal.type("/model\n")
            await terminal.shows(f"{CHAT}, {BASE}")
            terminal.type("/model nobody\n")
            await terminal.shows("there is no model 'nobody'")
            terminal.type(f"/model {BASE}\n")
            await terminal.shows(f"\n{BASE}>")
            terminal.type("hi\n")
            await terminal.shows("no chat template")
            terminal.type("/quit\n")
            assert await terminal.exit_code() == ExitCode.FINE


async def stop_an_answer(stack: Stack, terminal: Terminal) -> None:
    """Ctrl-C ends it on the worker, too, and the conversation goes on."""
    stack.worker.reset()
    terminal.type("tell me more\n")
    [submit] = await stack.worker.wait_for(Submit)
    await stack.worker.say(submit.request_id, *encode("Once upon a"))
    await terminal.shows("Once upon a")
    terminal.interrupt()
    await terminal.shows("(stopped)")
    await stack.worker.wait_for(Cancel)


async def test_the_fleet_as_it_lives(tmp_path: Path) -> None:
    async with open_stack(tmp_path) as stack:
        await tell_timeline(stack)
        async with run_on_terminal(command("top", "--url", stack.url), environ(tmp_path)) as terminal:
            await terminal.shows("1 worker  3 models", WORKER, "deadline", CHAT, BASE, "4 MiB of 8 MiB", "q quit")
            await terminal.until(lambda text: "█" in lane_of(text) or "▇" in lane_of(text), "a turn")
            terminal.type("s")
            await terminal.shows("model (by tokens/s)")
            terminal.type("+")
            await terminal.shows("last 10 s")
            terminal.type("p")
            await terminal.shows("paused")
            terminal.type("p")
            await terminal.until(lambda text: "paused" not in text, "the end of the pause")
            terminal.type("q")
            assert await terminal.exit_code() == ExitCode.FINE


def lane_of(text: str) -> str:
    """The strip below the worker's two lines."""
    lines = text.splitlines()
    index = next((index for index, line in enumerate(lines) if line.startswith(WORKER)), None)
    return "" if index is None else lines[index + 2]


async def test_ctrl_c_ends_top_with_its_status(tmp_path: Path) -> None:
    async with (
        open_stack(tmp_path) as stack,
        run_on_terminal(command("top", "--url", stack.url), environ(tmp_path)) as terminal,
    ):
        await terminal.shows("3 models")
        terminal.interrupt()
        assert await terminal.exit_code() == ExitCode.INTERRUPTED
