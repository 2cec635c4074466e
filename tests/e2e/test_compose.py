"""deploy/compose.yaml as processes: its commands, environment, secrets, order, health checks and restart rules."""

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI, AuthenticationError

from tests.compose_processes import Stack, read_compose
from tests.e2e.driving import CHAT_MODEL, complete_streaming

DEPLOY = Path(__file__).parents[2] / "deploy"
ASKED: dict[str, Any] = {"max_tokens": 32, "temperature": 0, "seed": 1}


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    subprocess.run(["sh", str(DEPLOY / "secrets.sh"), str(tmp_path / "secrets")], check=True)
    return tmp_path / "secrets"


@pytest.fixture
async def stack(secrets: Path, tmp_path: Path, demo_cache: Path) -> AsyncIterator[Stack]:
    variables = {"SECRETS_DIR": str(secrets), "NUM_THREADS": "1", "KV_MEMORY": "256MiB"}
    compose = read_compose(DEPLOY / "compose.yaml", variables)
    async with Stack(compose, tmp_path, DEPLOY, {"cache": demo_cache}).running(timeout_s=240) as stack:
        yield stack


def each_secret(folder: Path) -> list[str]:
    files = [path for path in folder.iterdir() if path.name != "passwords.conf"]
    return [path.read_text().rpartition("=")[2] for path in files]


async def test_a_chat_goes_on_when_its_worker_is_killed_and_started_again(stack: Stack, secrets: Path) -> None:
    url = f"http://127.0.0.1:{stack.services['gateway'].ports[8000]}/v1"
    with pytest.raises(AuthenticationError):
        await AsyncOpenAI(base_url=url, api_key="none", max_retries=0).models.list()
    key = (secrets / "api_keys").read_text().partition("=")[2]
    async with AsyncOpenAI(base_url=url, api_key=key, max_retries=0, timeout=90) as client:
        undisturbed = await complete_streaming(client, CHAT_MODEL, "Once upon a time", **ASKED)
        pieces: list[str] = []
        stream = await client.completions.create(model=CHAT_MODEL, prompt="Once upon a time", stream=True, **ASKED)
        async for chunk in stream:
            pieces += [choice.text for choice in chunk.choices]
            if len(pieces) == 8:
                stack.kill("worker")
        assert "".join(pieces) == undisturbed.text
        messages: list[Any] = [{"role": "user", "content": "Name a river."}]
        chat = await client.chat.completions.create(model=CHAT_MODEL, messages=messages, max_tokens=8)
        assert chat.choices[0].message.content
    assert {name: service.num_starts for name, service in stack.services.items()} == {
        "nats": 1, "router": 1, "steward": 1, "host-cache": 1, "worker": 2, "gateway": 1,
    }  # fmt: skip
    logs = stack.logs()
    assert [secret for secret in each_secret(secrets) if secret in logs] == []
