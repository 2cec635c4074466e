"""What one tenant uses of its limits, on this gateway. Pure: instants come in as arguments."""

from typing import NamedTuple

from gateway.tenants.bucket import Bucket
from gateway.tenants.tenant import Limits, Tenant
from shared.errors import ErrorCode, RequestError


class Allowance(NamedTuple):
    """A limit per minute as it stands now."""

    limit: int
    remaining: int
    full_in_s: float  # when all of it is there, if nothing more is taken


class Usage:
    def __init__(self, limits: Limits, now_s: float) -> None:
        self.limits = limits
        self._requests = _bucket(limits.requests_per_minute, now_s)
        self._tokens = _bucket(limits.tokens_per_minute, now_s)
        self._num_sequences = 0  # in flight

    @property
    def is_idle(self) -> bool:
        return self._num_sequences == 0

    def requests(self, now_s: float) -> Allowance | None:
        return _allowance(self._requests, now_s)

    def tokens(self, now_s: float) -> Allowance | None:
        return _allowance(self._tokens, now_s)

    def begin(self, num_sequences: int, now_s: float) -> "Claim":
        """Raises RequestError when a limit is reached; only what is let in counts as a request."""
        most = self.limits.concurrency
        if most is not None and num_sequences > most:
            raise RequestError(
                ErrorCode.INVALID_REQUEST,
                f"This request has {num_sequences} sequences, and this API key may have {most} in flight.",
            )
        if most is not None and self._num_sequences + num_sequences > most:
            raise _limited(f"This API key has {self._num_sequences} of at most {most} sequences in flight.", 1.0)
        if self._tokens is not None:
            _check(self._tokens, 1, "tokens", now_s)  # before the prompt is tokenized for nothing
        self.count_request(now_s)
        self._num_sequences += num_sequences
        return Claim(self, num_sequences)

    def count_request(self, now_s: float) -> None:
        """Of one that runs nothing on a worker this is all. Raises RequestError when the limit is reached."""
        _check(self._requests, 1, "requests", now_s)
        if self._requests is not None:
            self._requests.take(1, now_s)

    def reserve(self, num_tokens: int, now_s: float) -> None:
        """Raises RequestError. Who wants more than the limit gets in when all of it is there, and owes the rest."""
        _check(self._tokens, num_tokens, "tokens", now_s)
        self.take_tokens(num_tokens, now_s)

    def take_tokens(self, num_tokens: int, now_s: float) -> None:
        if self._tokens is not None:
            self._tokens.take(num_tokens, now_s)

    def leave(self, num_sequences: int) -> None:
        self._num_sequences -= num_sequences


class Claim:
    """What one call has of its tenant's limits, until its end."""

    def __init__(self, usage: Usage, num_sequences: int) -> None:
        self._usage = usage
        self._num_sequences = num_sequences
        self._num_reserved = 0

    def reserve(self, num_tokens: int, now_s: float) -> None:
        """As many as it may come to. Raises RequestError."""
        self._usage.reserve(num_tokens, now_s)
        self._num_reserved = num_tokens

    def end(self, num_tokens: int, now_s: float) -> None:
        """It came to so many."""
        self._usage.take_tokens(num_tokens - self._num_reserved, now_s)
        self._usage.leave(self._num_sequences)


class Usages:
    """Of all tenants that have limits. Tenants come from API keys, so they are bounded as those are."""

    def __init__(self) -> None:
        self._usages: dict[str, Usage] = {}

    def of(self, tenant: Tenant, now_s: float) -> Usage:
        usage = self._usages.get(tenant.id)
        if usage is None or usage.limits != tenant.limits:
            usage = self._usages[tenant.id] = Usage(tenant.limits, now_s)
        return usage

    def __len__(self) -> int:
        return len(self._usages)

    def keep(self, tenants: set[str]) -> None:
        """Others have no key any more; their calls that still run count for nobody."""
        self._usages = {name: usage for name, usage in self._usages.items() if name in tenants}


def _bucket(size: int | None, now_s: float) -> Bucket | None:
    return None if size is None else Bucket(size, now_s)


def _allowance(bucket: Bucket | None, now_s: float) -> Allowance | None:
    if bucket is None:
        return None
    return Allowance(bucket.size, max(0, int(bucket.level(now_s))), bucket.full_in_s(now_s))


def _check(bucket: Bucket | None, amount: int, things: str, now_s: float) -> None:
    if bucket is not None and (wait_s := bucket.wait_s(amount, now_s)) > 0:
        raise _limited(
            f"This API key's limit of {bucket.size} {things} per minute is reached: "
            f"{max(0, int(bucket.level(now_s)))} are left, and this request needs {amount}.",
            wait_s,
        )


def _limited(message: str, retry_after_s: float) -> RequestError:
    return RequestError(ErrorCode.RATE_LIMITED, message, retry_after_s=retry_after_s)
