"""Whose call it is: the holder of an API key, or one of the two that need none."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from shared.api_keys import ApiKey


@dataclass(frozen=True, slots=True)
class Limits:
    """None: no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None  # of prompts and outputs
    concurrency: int | None = None  # sequences in flight


@dataclass(frozen=True)
class Tenant:
    id: str  # for other services and logs; tells nothing of the key
    name: str
    limits: Limits = Limits()
    models: frozenset[str] | None = None  # that it may use; None: all
    priority: int | None = None  # the most urgent that its requests may have
    is_admin: bool = False

    @cached_property
    def cache_salt(self) -> str:
        """KV is shared within a tenant only: how fast an answer comes says nothing of other tenants' prompts."""
        return hashlib.sha256(f"kottos tenant {self.id}".encode()).hexdigest()[:32]

    def may_use(self, model: str) -> bool:
        return self.models is None or model in self.models

    def urgency(self, asked: int | None, default: int) -> int:
        """The priority of a request that asks for `asked`, where its model's is `default`. Lower is served first."""
        if self.priority is None:
            return default if asked is None else asked
        return self.priority if asked is None else max(asked, self.priority)


LOCAL: Final = Tenant("local", "whoever is on this machine", is_admin=True)  # where there are no keys
BUS: Final = Tenant("bus", "internal services")
NOBODY: Final = Tenant("nobody", "nobody", models=frozenset())  # a call that no front has said the tenant of


def tenant_of(key: ApiKey) -> Tenant:
    return Tenant(
        key.id,
        key.name,
        Limits(key.requests_per_minute, key.tokens_per_minute, key.concurrency),
        None if key.models is None else frozenset(key.models),
        key.priority,
        key.is_admin,
    )
