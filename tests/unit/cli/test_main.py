import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from cli.exit_codes import ExitCode
from cli.main import app, main
from shared.config import CONFIG_VARIABLE, KEYS, Config, ModelSource, variable

VARIABLES = {CONFIG_VARIABLE} | {variable(key.removesuffix("_bytes")) for key in KEYS}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """The configurations that `kottos serve` would run."""
    for name in os.environ:
        if name.startswith("KOTTOS_"):
            monkeypatch.delenv(name)
    configs: list[Config] = []
    monkeypatch.setattr("cli.serve.run", configs.append)
    monkeypatch.setattr("shared.log.setup", lambda service, level, style: None)
    return configs


def kottos(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    """Its exit status."""
    monkeypatch.setattr("sys.argv", ["kottos", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


def test_every_flag_reaches_the_configuration(served: list[Config], monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = "--host ::1 --port 9 --model a=/a --model b=/b --demo --device cuda --device-memory 2GiB"
    arguments += " --host-memory 3GiB --kv-memory 1GiB --dtype float32 --workers 2 --nats nats://n:1 --log-level debug"
    arguments += " --ttft 2 --tbt 0.05 --slo a=ttft_s:1 --slo b=priority:3"
    assert kottos(monkeypatch, "serve", *arguments.split()) == 0
    [config] = served
    worker = config.worker
    assert config.models == (ModelSource("a", "/a"), ModelSource("b", "/b")) and config.demo
    assert (config.gateway.host, config.gateway.port, config.bus.url) == ("::1", 9, "nats://n:1")
    assert (worker.device_memory_bytes, worker.host_memory_bytes, worker.kv_memory_bytes) == (2 << 30, 3 << 30, 1 << 30)
    assert (config.slo.ttft_s, config.slo.tbt_s) == (2.0, 0.05)
    assert [str(own) for own in config.slo.models] == ["a=ttft_s:1.0", "b=priority:3"]
    assert (worker.device, worker.dtype, worker.num_workers, config.log_level) == ("cuda", "float32", 2, "debug")


def test_flags_win_over_the_environment_and_that_over_the_file(
    served: list[Config], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "kottos.toml"
    file.write_text('demo = true\n[gateway]\nport = 1\nhost = "::1"\n')
    monkeypatch.setenv("KOTTOS_GATEWAY_PORT", "2")
    assert kottos(monkeypatch, "serve", "--config", str(file)) == 0
    assert kottos(monkeypatch, "serve", "--config", str(file), "--port", "3") == 0
    assert [config.gateway.port for config in served] == [2, 3]
    assert all(config.demo and config.gateway.host == "::1" for config in served)


@pytest.mark.parametrize(
    "arguments", [("--port", "http"), ("--port", "70000"), ("--model", "nameless"), ("--config", "/absent.toml")]
)
def test_a_bad_configuration_is_one_line_and_status_2(
    arguments: tuple[str, str],
    served: list[Config],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert kottos(monkeypatch, "serve", *arguments) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and said.err.startswith("kottos: ")
    assert not served


def test_help_shows_the_variable_of_every_option() -> None:
    command = get_command(app).commands["serve"]  # type: ignore[attr-defined]
    for option in command.params:
        name = option.help.rpartition("Environment: ")[2].removesuffix(".")
        assert name in VARIABLES, option.name


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"kottos {importlib.metadata.version('kottos')}\n"
    with pytest.raises(SystemExit):
        main(["version", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["python"] == platform.python_version() and told["devices"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["chat"],
        ["chat", "m", "hi", "--temperature", "3"],
        ["chat", "m", "hi", "--max-tokens", "0"],
        ["top", "--url", "nowhere", "--once"],
        ["workers", "--url", "ftp://x"],
        ["drain", "w", "--undo", "--wait"],
        ["models", "slo", "m"],
        ["models", "slo", "m", "--ttft", "fast"],
        ["bench", "serve", "m", "--prompt-words", "9-3"],
        ["keys", "create", "--name", "x", "--concurrency", "0"],
    ],
    ids=" ".join,
)
def test_a_bad_command_line_has_its_status(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr()
    assert ended.value.code == ExitCode.USAGE and said.out == "" and "Traceback" not in said.err


def test_help_is_there_without_what_commands_need() -> None:
    """Importing them takes most of the time."""
    heavy = "{'torch', 'transformers', 'asyncio', 'aiohttp', 'nats', 'rich.table', 'rich.live', 'urllib.request'}"
    script = f"import sys, cli.main\nsys.exit(str(found) if (found := {heavy} & set(sys.modules)) else 0)"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
