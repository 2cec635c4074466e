import subprocess
from pathlib import Path

import pytest

from cli.client_env import write_client_env
from shared.config import BusConfig, load_config

BUS = BusConfig("nats://127.0.0.1:15000", "client", "0123abcd")


def test_only_its_owner_may_read_the_file(tmp_path: Path) -> None:
    assert write_client_env(tmp_path, BUS).stat().st_mode & 0o777 == 0o600


def test_a_shell_hands_the_configuration_on(tmp_path: Path) -> None:
    path = write_client_env(tmp_path, BUS)
    shell = subprocess.run(["sh", "-c", f"set -a; . '{path}'; env"], capture_output=True, text=True, check=True, env={})
    environ = dict(line.split("=", 1) for line in shell.stdout.splitlines())
    assert load_config(environ=environ).bus == BUS


def test_a_file_that_somebody_else_made_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "client.env").touch()
    with pytest.raises(FileExistsError):
        write_client_env(tmp_path, BUS)
