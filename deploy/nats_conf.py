"""Makes the configuration of a NATS server from what each bus user may do: python -m deploy.nats_conf"""

import json
from pathlib import Path
from typing import Final

from cli.broker import MAX_PAYLOAD_BYTES
from shared.subjects import PERMISSIONS

FILE: Final = Path(__file__).parent / "helm" / "kottos" / "files" / "nats.conf"  # a chart reads its own folder only


def conf() -> str:
    users = ",\n".join(
        f"    {{ user: {user}, password: ${password_name(user)}, permissions: {json.dumps(permissions._asdict())} }}"
        for user, permissions in PERMISSIONS.items()
    )
    return f"""\
# Made by deploy/nats_conf.py from PERMISSIONS of shared/subjects.py: one user per service.
# passwords.conf, in the same folder, has a line NAME: "VALUE" for each of the names with a $.
include ./passwords.conf

max_payload: {MAX_PAYLOAD_BYTES}
jetstream: {{ max_memory_store: 64MB, max_file_store: 1GB }}
authorization: {{
  users: [
{users}
  ]
}}
"""


def password_name(user: str) -> str:
    return f"{user.upper()}_PASSWORD"


if __name__ == "__main__":
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(conf(), encoding="utf-8")
