"""Both demo models: in the whole stack as processes, once per session, and for workers within a test."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from openai import AsyncOpenAI

from benchmarks.served import Served, serve
from shared.config import load_config
from tests.e2e.driving import open_client
from tests.integration.tiny_models import TinyModels


def serve_demo(device_memory: str, temp: Path) -> AbstractContextManager[Served]:
    """One thread each: steps on all cores collapse when anything else runs beside them."""
    settings = {"KOTTOS_WORKER_NUM_THREADS": "1"}
    return serve("--demo", "--device-memory", device_memory, log_path=temp / "log", settings=settings)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Both models are resident."""
    with serve_demo("2GiB", tmp_path_factory.mktemp("stack")) as served:
        yield served


@pytest.fixture(scope="session")
def small_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Only one of the models fits into the device's memory at a time."""
    with serve_demo("760MiB", tmp_path_factory.mktemp("small_stack")) as served:
        yield served


@pytest.fixture
async def client(stack: Served) -> AsyncIterator[AsyncOpenAI]:
    async with open_client(stack) as client:
        yield client


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """For stacks that need no real models; "llama" and "gemma3" are imported already."""
    models = TinyModels(tmp_path_factory.getbasetemp() / "tiny-models")
    models.config([models.source(family) for family in ("llama", "gemma3")], dtype="bfloat16")
    return models


@pytest.fixture(scope="session")
def demo_cache() -> Path:
    """The cache folder, with both demo models, converted when they are not there yet."""
    path = load_config().cache_dir
    subprocess.run([sys.executable, "-m", "gpu_worker.importer.demo", "--cache", str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Of torch: steps on all cores collapse when anything else runs beside them."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)
