import os
from pathlib import Path

import pytest
from typer.main import get_command

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
    monkeypatch.setattr("shared.log.setup", lambda service, level: None)
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


def test_version_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert kottos(monkeypatch, "version") == 0
    assert capsys.readouterr().out.strip().count(".") == 2
