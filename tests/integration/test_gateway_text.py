"""Text processes: real ones, on a tiny model's folder."""

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.text.jobs import Encode, Encoded, Failed, Render, Rendered, Spell, Spelled, TooLong
from gateway.text.pool import TextPool
from gateway.text.process import ProcessEnded, TextProcess
from shared import log
from shared.errors import ErrorCode, RequestError
from shared.messages import ChatMessage, ChatOptions, Tool
from tests.processes import descendants, watch
from tests.unit.gateway.tiny_models import BOS_ID, CHAT_TEMPLATE, byte_level, write_text_assets

SOON_S = 20.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_text_assets(tmp_path)
    return tmp_path


@pytest.fixture
async def process() -> AsyncIterator[TextProcess]:
    async with TextProcess() as started:
        yield started


def niceness(pid: int) -> int | None:
    """Of the session; None without such a feature."""
    autogroup = Path(f"/proc/{pid}/autogroup")
    shown = autogroup.read_text() if autogroup.exists() else ""
    return int(shown.split()[-1]) if shown else None


def chat(role: str, content: str = "x") -> tuple[ChatMessage, ...]:
    return (ChatMessage(role, content),)


async def test_rendering_and_encoding(process: TextProcess, folder: Path) -> None:
    rendered = await process.perform(Render(str(folder), chat("user", "fox")), SOON_S, SOON_S)
    assert rendered == Rendered("<bos>user: fox\nassistant:")
    plain = tuple(byte_level().encode("fox dog", add_special_tokens=False).ids)
    encode = Encode(str(folder), "fox dog", True, 100)
    assert await process.perform(encode, SOON_S, SOON_S) == Encoded((BOS_ID, *plain))
    assert await process.perform(Encode(str(folder), "fox dog", False, 100), SOON_S, SOON_S) == Encoded(plain)
    assert await process.perform(Encode(str(folder), "fox dog", False, 1), SOON_S, SOON_S) == TooLong(len(plain))


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{% set _ = messages.append(1) %}",
    ],
)
async def test_a_template_stays_in_its_sandbox(process: TextProcess, folder: Path, template: str) -> None:
    (folder / "chat_template.jinja").write_text(template)
    result = await process.perform(Render(str(folder), chat("user")), SOON_S, SOON_S)
    assert isinstance(result, Failed)


async def test_a_template_that_builds_a_huge_string_fails(process: TextProcess, folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ 'x' * 100000000000 }}")
    result = await process.perform(Render(str(folder), chat("user")), SOON_S, SOON_S)
    assert isinstance(result, Failed)
    encoded = await process.perform(Encode(str(folder), "fox", False, 100), SOON_S, SOON_S)
    assert isinstance(encoded, Encoded)  # it lives on


async def test_a_folder_without_a_tokenizer(process: TextProcess, tmp_path: Path) -> None:
    assert isinstance(await process.perform(Encode(str(tmp_path / "none"), "x", False, 9), SOON_S, SOON_S), Failed)


async def test_it_has_no_torch_and_no_credentials(process: TextProcess, folder: Path) -> None:
    await process.perform(Encode(str(folder), "fox", False, 100), SOON_S, SOON_S)
    proc = Path(f"/proc/{process.pid}")
    assert "libtorch" not in (proc / "maps").read_text()
    assert "KOTTOS_" not in (proc / "environ").read_text()


async def test_it_leads_a_session_whose_niceness_is_as_before_once_a_tokenizer_is_read(
    process: TextProcess, folder: Path
) -> None:
    assert os.getsid(process.pid) == process.pid != os.getsid(0)
    await process.perform(Encode(str(folder), "", False, 1), 30.0, 30.0)
    assert niceness(process.pid) in (0, None)


async def test_a_process_that_ended_says_so(process: TextProcess, folder: Path) -> None:
    with watch(process.pid) as [watched]:
        process.kill()
        await watched.wait_end()
    with pytest.raises(ProcessEnded):
        await process.perform(Encode(str(folder), "fox", False, 100), SOON_S, SOON_S)


async def test_it_ends_with_its_parent_however_busy(folder: Path) -> None:
    """The parent is killed while the child renders an endless template."""
    program = (
        "import asyncio\n"
        "from gateway.text.jobs import Render\n"
        "from gateway.text.process import TextProcess\n"
        "from shared.messages import ChatMessage\n"
        "async def main():\n"
        "    async with TextProcess() as process:\n"
        f"        busy = Render({str(folder)!r}, (ChatMessage('endless', ''),))\n"
        "        print(process.pid, flush=True)\n"
        "        await process.perform(busy, 60, 60)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    with watch(int(await parent.stdout.readline())) as [child]:
        assert descendants(parent.pid) == [child.pid]
        parent.kill()
        await parent.wait()
        await child.wait_end()


async def test_the_pool_fails_only_the_job_that_takes_too_long(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    about: list[str] = []

    def note(record: logging.LogRecord) -> bool:
        about.append(log.subject())
        return True

    caplog.handler.addFilter(note)
    pool = TextPool(template_timeout_s=0.5, max_waiting=10, num_processes=1)
    async with pool.running():
        with log.about("req-1"):
            slow = asyncio.create_task(pool.render(folder, chat("endless")))
        after = asyncio.create_task(pool.render(folder, chat("user", "fox")))
        with pytest.raises(RequestError, match=r"took more than 0\.5 s") as caught:
            await slow
        assert caught.value.code is ErrorCode.INVALID_REQUEST
        assert await after == "<bos>user: fox\nassistant:"
    caplog.handler.removeFilter(note)
    assert about == ["req-1"]  # the line that says why


async def test_the_pool_refuses_what_its_queue_does_not_hold(folder: Path) -> None:
    pool = TextPool(template_timeout_s=0.5, max_waiting=1, num_processes=1)
    first = asyncio.create_task(pool.render(folder, chat("user")))  # nobody serves yet
    await asyncio.sleep(0)
    with pytest.raises(RequestError) as caught:
        await pool.render(folder, chat("user"))
    assert caught.value.code is ErrorCode.OVERLOADED
    first.cancel()


async def test_a_job_whose_waiter_left_is_skipped(folder: Path) -> None:
    pool = TextPool(template_timeout_s=20.0, max_waiting=10, num_processes=1)
    left = asyncio.create_task(pool.render(folder, chat("endless")))
    await asyncio.sleep(0)
    left.cancel()
    async with pool.running(), asyncio.timeout(10):
        assert await pool.render(folder, chat("user", "fox")) == "<bos>user: fox\nassistant:"


async def test_tools_and_variables_reach_the_template(process: TextProcess, folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ tools | tojson }} {{ colour }} {{ add_generation_prompt }}")
    options = ChatOptions(tools=(Tool("now"),), template_kwargs='{"colour": "red"}', add_generation_prompt=False)
    result = await process.perform(Render(str(folder), chat("user"), options), SOON_S, SOON_S)
    parameters = '"parameters": {"type": "object", "properties": {}}'
    assert result == Rendered(f'[{{"type": "function", "function": {{"name": "now", {parameters}}}}}] red False')


@pytest.mark.parametrize(
    "template",
    ["{% set _ = tools.append(1) %}", "{% set _ = tools[0].update(x=1) %}", "{{ tools.__class__.__mro__ }}"],
)
async def test_a_template_changes_no_tool(process: TextProcess, folder: Path, template: str) -> None:
    (folder / "chat_template.jinja").write_text(template)
    job = Render(str(folder), chat("user"), ChatOptions(tools=(Tool("now"),)))
    assert isinstance(await process.perform(job, SOON_S, SOON_S), Failed)


async def test_the_template_is_told_with_the_tokens(process: TextProcess, folder: Path) -> None:
    spelled = await process.perform(Spell(str(folder)), SOON_S, SOON_S)
    assert isinstance(spelled, Spelled) and spelled.chat_template == CHAT_TEMPLATE
    write_text_assets(folder / "base", has_chat_template=False)
    spelled = await process.perform(Spell(str(folder / "base")), SOON_S, SOON_S)
    assert isinstance(spelled, Spelled) and spelled.chat_template == ""
