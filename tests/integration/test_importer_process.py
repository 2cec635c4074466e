"""The importer as a process: status and reason, concurrent and killed imports, nothing heavy when all is done."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.tiny_models import make_tiny_model
from gpu_worker.importer.launch import ensure_imported
from shared.catalogue import PLAIN_LAYOUT, ModelEntry, fingerprint, is_imported
from shared.errors import ModelError
from shared.importing import Progress
from tests.integration.tiny_models import TinyModels
from tests.processes import descendants, watch


@pytest.fixture(autouse=True)
def _not_in_idle_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that run beside these leave none."""
    monkeypatch.setattr(os, "SCHED_IDLE", os.SCHED_OTHER)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model("llama", tmp_path_factory.mktemp("tiny") / "llama")


def _entry(source: Path, cache: Path) -> ModelEntry:
    return ModelEntry("tiny", str(source), cache / "models" / fingerprint(str(source)))


def _start(source: Path, cache: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "gpu_worker.importer", "--name", "tiny", "--dtype", "float32"]
    command += ["--source", str(source), "--cache", str(cache), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_at_once_clean_up_after_a_killed_one_and_leave_one_model(source: Path, tmp_path: Path) -> None:
    killed = _start(source, tmp_path, "--json")
    assert killed.stdout is not None
    while json.loads(killed.stdout.readline())["phase"] != "load":
        pass
    killed.kill()
    killed.communicate()
    assert len(list((tmp_path / "models").glob(".unfinished-*"))) == 1
    assert not is_imported(_entry(source, tmp_path), PLAIN_LAYOUT, "float32")

    both = [_start(source, tmp_path, "--json") for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert is_imported(_entry(source, tmp_path), PLAIN_LAYOUT, "float32")
    assert {path.name for path in (tmp_path / "models").iterdir()} == {".lock", fingerprint(str(source))}
    phases = [[json.loads(line)["phase"] for line in stdout.splitlines()] for stdout, _ in outputs]
    assert sorted(bool(phase) for phase in phases) == [False, True]  # one worked, the other found it done


def test_what_is_imported_needs_no_torch(tiny_models: TinyModels) -> None:
    imported = tiny_models.source("llama")
    tiny_models.config([imported])
    script = (
        "import sys; from gpu_worker.importer.__main__ import main; status = main(sys.argv[1:]);"
        "sys.exit(status or sum(name in sys.modules for name in ('torch', 'transformers', 'numpy')))"
    )
    arguments = [
        "--name",
        "tiny",
        "--source",
        imported.path,
        "--cache",
        str(tiny_models.cache_dir),
        "--dtype",
        "float32",
    ]
    subprocess.run([sys.executable, "-c", script, *arguments], check=True, timeout=60)


async def test_worker_hears_progress_and_imports_once(source: Path, tmp_path: Path) -> None:
    heard: list[Progress] = []
    entry = _entry(source, tmp_path)
    await ensure_imported(entry, "float32", tmp_path, heard.append)
    assert list(dict.fromkeys(progress.phase for progress in heard)) == ["tokenizer", "load", "write", "probe"]
    assert is_imported(entry, PLAIN_LAYOUT, "float32")
    heard.clear()
    await ensure_imported(entry, "float32", tmp_path, heard.append)
    assert heard == []


async def test_worker_hears_the_reason(tmp_path: Path) -> None:
    refused = make_tiny_model("llama", tmp_path / "refused")
    (refused / "model.safetensors").rename(refused / "model.bin")
    with pytest.raises(ModelError, match=r"^tiny: .*pickle"):
        await ensure_imported(_entry(refused, tmp_path), "float32", tmp_path)


async def test_a_cancelled_worker_ends_the_import(source: Path, tmp_path: Path) -> None:
    working = asyncio.Event()
    others = set(descendants(os.getpid()))
    task = asyncio.create_task(
        ensure_imported(_entry(source, tmp_path), "float32", tmp_path, lambda progress: working.set())
    )
    await working.wait()
    with watch(*(set(descendants(os.getpid())) - others)) as children:
        assert len(children) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await children[0].wait_end()
    assert not is_imported(_entry(source, tmp_path), PLAIN_LAYOUT, "float32")
