"""A service that refuses its configuration is not started again: the stack ends."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from cli.supervisor import Service, Supervisor
from shared.entry import EXIT_REFUSED


def service(folder: Path, status: int) -> Service:
    """Counts its starts by one letter a start, then ends with `status`."""
    code = f"open({str(folder / 'starts')!r}, 'a').write('x'); raise SystemExit({status})"
    return Service("one", [sys.executable, "-c", code], dict(os.environ))


async def test_the_stack_hears_of_it_and_the_service_stays_down(tmp_path: Path) -> None:
    async with Supervisor() as supervisor:
        supervisor.start([service(tmp_path, EXIT_REFUSED)])
        async with asyncio.timeout(20):
            await supervisor.refused()
        assert supervisor.pids() == {}
    assert (tmp_path / "starts").read_text() == "x"


async def test_any_other_status_starts_it_again(tmp_path: Path) -> None:
    async with Supervisor() as supervisor:
        supervisor.start([service(tmp_path, 1)])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await supervisor.refused()
    assert len((tmp_path / "starts").read_text()) > 1
