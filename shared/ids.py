"""Identifiers that cross process borders, one type each."""

import secrets
from typing import NewType

ModelName = NewType("ModelName", str)  # as clients write it
RequestId = NewType("RequestId", str)  # one sequence of one client request; unique for ever
OwnerId = NewType("OwnerId", str)  # a gateway process, from its start to its end
WorkerId = NewType("WorkerId", str)  # a worker's place; survives restarts
ClientId = NewType("ClientId", str)  # an internal service that calls over the bus
CallId = NewType("CallId", str)  # one call of such a service
Incarnation = NewType("Incarnation", str)  # one life of a process; new at every start


def new_id(prefix: str) -> str:
    """A random identifier (96 bits) that is safe as one subject token."""
    return f"{prefix}-{secrets.token_hex(12)}"
