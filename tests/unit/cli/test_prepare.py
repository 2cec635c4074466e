"""Importers are shell scripts here that speak as the real one does."""

import asyncio
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from cli.progress import PreparationView
from shared.errors import ModelError
from shared.importing import Progress, run_importer
from tests.processes import watch


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


async def test_progress_is_passed_on_and_other_output_ignored() -> None:
    heard: list[Progress] = []
    script = """
        echo '{"phase": "load", "done": 1, "total": 2, "extra": true}'
        echo 'a library says hello'
        echo '{"phase": 3}'
        echo '{"phase": "probe", "done": 0, "total": 1, "model": "a"}'
        echo noise >&2
    """
    await run_importer(shell(script), heard.append)
    assert heard == [Progress("load", 1, 2), Progress("probe", 0, 1, "a")]


async def test_a_refusal_is_the_last_line_on_stderr() -> None:
    with pytest.raises(ModelError, match=r"^a: no such file$"):
        await run_importer(shell("echo noise >&2; echo 'a: no such file' >&2; exit 1"), lambda progress: None)


async def test_a_silent_failure_has_a_reason_too() -> None:
    with pytest.raises(ModelError, match="status 7"):
        await run_importer(shell("exit 7"), lambda progress: None)
    with pytest.raises(ModelError, match="SIGKILL"):
        await run_importer(shell("kill -9 $$"), lambda progress: None)


async def test_a_flood_on_stderr_does_not_block() -> None:
    with pytest.raises(ModelError, match=r"^the reason$"):
        await run_importer(shell("yes | head -c 1000000 >&2; echo 'the reason' >&2; exit 1"), lambda progress: None)


async def test_a_cancelled_import_leaves_no_process(tmp_path: Path) -> None:
    started = asyncio.Event()
    pids: list[int] = []

    def hear(progress: Progress) -> None:
        pids.append(progress.done)
        started.set()

    task = asyncio.create_task(
        run_importer(
            shell('echo "{\\"phase\\": \\"load\\", \\"done\\": $$, \\"total\\": 0}"; trap "" TERM; sleep 1000; true'),
            hear,
        )
    )
    async with asyncio.timeout(10):
        await started.wait()
    with watch(*pids) as [process]:
        task.cancel()
        await asyncio.wait([task])
        assert not process.is_alive() and task.cancelled()


def test_without_a_terminal_each_phase_is_one_line() -> None:
    output = StringIO()
    with PreparationView(Console(file=output, force_terminal=False)) as view:
        for done in (0, 50, 100):
            view("[a]", Progress("load", done, 100))
        view("[a]", Progress("write", 0, 100))
    assert output.getvalue().splitlines() == ["preparing [a]: load", "preparing [a]: write"]


def test_on_a_terminal_there_is_a_bar() -> None:
    output = StringIO()
    with PreparationView(Console(file=output, force_terminal=True, width=80)) as view:
        view("a", Progress("load", 50, 100))
    assert "preparing a: load" in output.getvalue() and "50%" in output.getvalue()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no SCHED_IDLE")
@pytest.mark.parametrize(("in_idle_time", "policy"), [(True, "5"), (False, "0")])
async def test_it_runs_in_idle_time_where_it_is_told_to(in_idle_time: bool, policy: str) -> None:
    script = "sed -n 's/^policy *: *//p' /proc/self/sched >&2; exit 1"
    with pytest.raises(ModelError, match=f"^{policy}$"):
        await run_importer(shell(script), lambda progress: None, in_idle_time=in_idle_time)
