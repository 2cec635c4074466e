from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import settings

from cli.broker import EmbeddedBroker

# The same examples each time, so that a change is what makes a test fail. --hypothesis-profile=default tries new ones.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[EmbeddedBroker]:
    """A real nats-server of its own for each test: `broker.config(user)` says how to connect."""
    run_dir = tmp_path / "broker"
    run_dir.mkdir(mode=0o700)
    async with EmbeddedBroker(run_dir) as running:
        yield running
