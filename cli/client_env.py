"""How an internal service of this machine reaches the embedded bus: variables, in a private file of the run folder.

The lines suit a shell (`set -a; . client.env`), `docker --env-file` and systemd's `EnvironmentFile`.
"""

import os
from pathlib import Path

from shared.config import BusConfig, variable


def write_client_env(run_dir: Path, bus: BusConfig) -> Path:
    """Writes client.env (mode 0600); it ends with the folder, as the credentials end with the server."""
    path = run_dir / "client.env"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as file:
        for key, value in (("bus.url", bus.url), ("bus.user", bus.user), ("bus.password", bus.password)):
            file.write(f"{variable(key)}={value}\n")
    return path
