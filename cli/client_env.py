"""How others of this machine reach the embedded bus: variables, in private files of the run folder.

client.env is for internal services, operator.env for whoever changes what is served. The lines suit a shell
(`set -a; . client.env`), `docker --env-file` and systemd's `EnvironmentFile`.
"""

import os
from pathlib import Path
from typing import Final

from shared.config import BusConfig, load_config, variable
from shared.errors import ConfigError

OPERATOR_ENV: Final = "operator.env"


def write_client_env(run_dir: Path, bus: BusConfig) -> Path:
    """Writes client.env (mode 0600); it ends with the folder, as the credentials end with the server."""
    return _write(run_dir / "client.env", bus)


def write_operator_env(run_dir: Path, bus: BusConfig) -> Path:
    """Writes operator.env, likewise."""
    return _write(run_dir / OPERATOR_ENV, bus)


def read_env(path: Path) -> BusConfig:
    """Raises ConfigError."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from error
    return load_config(environ=dict(line.split("=", 1) for line in lines if "=" in line)).bus


def _write(path: Path, bus: BusConfig) -> Path:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as file:
        for key, value in (("bus.url", bus.url), ("bus.user", bus.user), ("bus.password", bus.password)):
            file.write(f"{variable(key)}={value}\n")
    return path
