"""The supervisor with small shell scripts as services; each writes lines into one pipe that the test reads."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from cli.backoff import Backoff
from cli.supervisor import Service, Supervisor
from tests.processes import watch

ROOT = Path(__file__).parents[3]


class Script:
    """Makes services and hears what they say."""

    def __init__(self, fifo: Path, reader: asyncio.StreamReader) -> None:
        self.fifo = fifo
        self._reader = reader

    def service(self, name: str, script: str) -> Service:
        return Service(name, ["/bin/sh", "-c", script], {"PIPE": str(self.fifo), "PATH": os.environ["PATH"]})

    async def hear(self) -> str:
        return (await asyncio.wait_for(self._reader.readline(), 10)).decode().strip()


@pytest_asyncio.fixture
async def script(tmp_path: Path) -> AsyncIterator[Script]:
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    reader = asyncio.StreamReader()
    file = os.fdopen(os.open(fifo, os.O_RDWR | os.O_NONBLOCK), "rb", buffering=0)  # a writer too: no end of file
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), file
    )
    yield Script(fifo, reader)
    transport.close()


def quick() -> Backoff:
    return Backoff(first_s=0.001)


SAYS_PID = 'echo $$ > "$PIPE"; exec sleep 1000'
ENDS_LOUDLY = 'trap "echo $0 ended > $PIPE; exit" TERM; echo up > "$PIPE"; while :; do sleep 1000 & wait $!; done'
IGNORES_TERM = 'trap "" TERM; echo $$ > "$PIPE"; while :; do sleep 1000; done'


async def test_a_killed_process_is_started_again_and_the_log_says_why(
    script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    async with Supervisor(new_backoff=quick) as supervisor:
        supervisor.start([script.service("router", SAYS_PID)])
        first = int(await script.hear())
        assert supervisor.pids() == {"router": first}
        os.kill(first, signal.SIGKILL)
        second = int(await script.hear())
        assert second != first and supervisor.pids() == {"router": second}
    assert "router was ended by SIGKILL; starting it again in 0.0 s" in caplog.text
    assert supervisor.pids() == {}


async def test_the_log_has_the_exit_code(script: Script, caplog: pytest.LogCaptureFixture) -> None:
    async with Supervisor(new_backoff=quick) as supervisor:
        supervisor.start([script.service("worker-0", 'echo up > "$PIPE"; exit 3')])
        await script.hear()
        await script.hear()
    assert "worker-0 ended with exit code 3" in caplog.text


async def test_a_command_that_does_not_exist_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    retried = asyncio.Event()

    class Watchful(Backoff):
        def delay_s(self, lived_s: float) -> float:
            if self._next_s:
                retried.set()
            return super().delay_s(lived_s)

    async with Supervisor(new_backoff=lambda: Watchful(first_s=0.001)) as supervisor:
        supervisor.start([Service("ghost", ["/no/such/program"], {})])
        await asyncio.wait_for(retried.wait(), 10)
    assert "ghost can't be started" in caplog.text


async def test_groups_stop_in_reverse_order_one_after_the_other(script: Script) -> None:
    async with Supervisor() as supervisor:
        for name in ("broker", "router", "gateway"):
            service = script.service(name, ENDS_LOUDLY)
            supervisor.start([Service(name, [*service.command, name], service.environ)])
            assert await script.hear() == "up"
    assert [await script.hear() for _ in range(3)] == ["gateway ended", "router ended", "broker ended"]


async def test_one_that_ignores_the_request_is_killed(script: Script, caplog: pytest.LogCaptureFixture) -> None:
    async with Supervisor(stop_timeout_s=0.05) as supervisor:
        supervisor.start([script.service("stubborn", IGNORES_TERM)])
        pid = int(await script.hear())
        with watch(pid) as [process]:
            await supervisor.stop()
            assert not process.is_alive()
    assert "stubborn did not stop within 0.05 s" in caplog.text


async def test_kill_ends_a_stop_under_way_and_every_group(script: Script) -> None:
    supervisor = Supervisor(stop_timeout_s=1000)
    pids = []
    for name in ("first", "second"):
        supervisor.start([script.service(name, IGNORES_TERM)])
        pids.append(int(await script.hear()))
    with watch(*pids) as processes:
        stop = asyncio.create_task(supervisor.stop())
        await asyncio.sleep(0)
        supervisor.kill()
        await asyncio.wait_for(stop, 10)
        assert not any(process.is_alive() for process in processes)


async def test_children_of_a_process_end_with_it(script: Script) -> None:
    async with Supervisor() as supervisor:
        supervisor.start([script.service("gateway", 'sleep 1000 & echo $! > "$PIPE"; wait')])
        with watch(int(await script.hear())) as [grandchild]:
            await supervisor.stop()
            await grandchild.wait_end()


async def test_stopping_does_not_wait_for_a_restart(script: Script) -> None:
    waiting = asyncio.Event()

    class Endless(Backoff):
        def delay_s(self, lived_s: float) -> float:
            waiting.set()
            return 1000.0

    supervisor = Supervisor(new_backoff=Endless)
    supervisor.start([script.service("router", "exit 1")])
    await asyncio.wait_for(waiting.wait(), 10)
    await asyncio.wait_for(supervisor.stop(), 10)


async def test_one_that_is_just_being_started_is_stopped_too(script: Script) -> None:
    supervisor = Supervisor(stop_timeout_s=1000)
    supervisor.start([script.service("router", "exec sleep 1000")])
    await asyncio.sleep(0)  # the keeper runs up to its first await: inside the start
    await asyncio.wait_for(supervisor.stop(), 10)
    assert supervisor.pids() == {}


SUPERVISOR_PROGRAM = """
import asyncio, os, sys
from cli.supervisor import Service, Supervisor

async def main():
    supervisor = Supervisor()
    command = ["/bin/sh", "-c", 'echo $$ > "$PIPE"; trap "" TERM HUP INT; while :; do sleep 1000; done']
    supervisor.start([Service(name, command, os.environ) for name in ("one", "two")])
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_children_end_when_the_supervisor_is_killed(script: Script) -> None:
    environ = os.environ | {"PIPE": str(script.fifo), "PYTHONPATH": str(ROOT)}
    supervisor = await asyncio.create_subprocess_exec(sys.executable, "-c", SUPERVISOR_PROGRAM, env=environ)
    pids = [int(await script.hear()) for _ in range(2)]
    with watch(*pids) as children:
        assert all(child.is_alive() for child in children)
        supervisor.kill()
        await supervisor.wait()
        for child in children:
            await child.wait_end()
