"""A real gateway with a scripted router and worker behind it, over the in-memory bus."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from openai import AsyncOpenAI

from gateway.app import Gateway, open_gateway
from shared.api_keys import ApiKey, added, change_keys, hash_of, key_file
from shared.config import Config, GatewayConfig
from shared.ids import ModelName
from shared.levels import LevelChange, ModelLevel, SloConfig
from shared.memory_bus import MemoryBroker
from shared.tracing import Tracer
from tests.integration.scripted_worker import ScriptedWorker
from tests.unit.gateway.tiny_models import EOS_ID, byte_level, import_model, write_source

CHAT: Final = "tiny/chat"  # imported, with a chat template and a service level of its own
BASE: Final = "tiny-base"  # imported, without one
ASLEEP: Final = "tiny-asleep"  # not imported yet
CONTEXT_LENGTH: Final = 128


@dataclass(frozen=True)
class Stack:
    gateway: Gateway
    worker: ScriptedWorker
    broker: MemoryBroker
    url: str

    def client(self) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=20)

    def says(self, text: str, *, ends: bool = True) -> list[int]:
        """From now on every request is answered with this text. Returns its token ids."""
        token_ids = encode(text) + [EOS_ID] * ends
        self.worker.reset(lambda submit: token_ids)
        return token_ids


def encode(text: str) -> list[int]:
    return byte_level().encode(text, add_special_tokens=False).ids


def make_config(folder: Path, gateway: GatewayConfig, context_length: int = CONTEXT_LENGTH) -> Config:
    """With the models above in its catalogue."""
    sources = tuple(write_source(folder / "sources" / name, name) for name in (CHAT, BASE, ASLEEP))
    slo = SloConfig(models=(ModelLevel(CHAT, LevelChange(ttft_s=4.0, priority=2)),))
    config = Config(models=sources, cache_dir=folder / "cache", state_dir=folder / "state", gateway=gateway, slo=slo)
    import_model(config, CHAT, context_length=context_length)
    import_model(config, BASE, context_length=context_length, has_chat_template=False)
    return config


@asynccontextmanager
async def open_stack(folder: Path, *, context_length: int = CONTEXT_LENGTH, **settings: float) -> AsyncIterator[Stack]:
    config = make_config(folder, GatewayConfig(port=0, **settings), context_length)  # type: ignore[arg-type]
    async with serving(config, (ModelName(CHAT), ModelName(BASE))) as stack:
        yield stack


@asynccontextmanager
async def serving(config: Config, models: tuple[ModelName, ...], tracer: Tracer | None = None) -> AsyncIterator[Stack]:
    """Its worker has these models."""
    broker = MemoryBroker()
    worker = ScriptedWorker(bus=broker.connect("router"), worker_bus=broker.connect("worker"), models=models)
    async with worker.running(), open_gateway(config, broker.connect("gateway"), tracer=tracer) as gateway:
        await worker.beat()
        yield Stack(gateway, worker, broker, f"http://{gateway.host}:{gateway.port}")
    assert gateway.admission.num_open == 0  # whatever was admitted has been let go


def make_key(folder: Path, name: str, key: str, **limits: Any) -> None:
    """Of the gateways that are opened in this folder."""
    made = ApiKey(id=f"key-{name}", name=name, sha256=hash_of(key), created=1, **limits)
    change_keys(key_file(Config(state_dir=folder / "state")), lambda keys: added(keys, made))
