import pytest

from gateway.tenants.tenant import LOCAL, Limits, Tenant
from gateway.tenants.usage import Usage, Usages
from shared.errors import ErrorCode, RequestError


def refusal(usage: Usage, now_s: float, num_sequences: int = 1) -> RequestError:
    with pytest.raises(RequestError) as caught:
        usage.begin(num_sequences, now_s)
    return caught.value


def test_requests_per_minute() -> None:
    usage = Usage(Limits(requests_per_minute=2), 0.0)
    for _ in range(2):
        usage.begin(1, 0.0).end(5, 0.0)
    error = refusal(usage, 0.0)
    assert (error.code, error.retry_after_s) == (ErrorCode.RATE_LIMITED, pytest.approx(30.0))
    assert "2 requests per minute" in error.message
    assert refusal(usage, 20.0).retry_after_s == pytest.approx(10.0)  # the one before took nothing
    usage.begin(1, 30.0)
    allowance = usage.requests(30.0)
    assert allowance is not None and allowance == (2, 0, pytest.approx(60.0))


def test_tokens_are_reserved_and_what_is_not_used_comes_back() -> None:
    usage = Usage(Limits(tokens_per_minute=100), 0.0)
    claim = usage.begin(1, 0.0)
    claim.reserve(80, 0.0)
    other = usage.begin(1, 0.0)
    with pytest.raises(RequestError, match="20 are left, and this request needs 30") as caught:
        other.reserve(30, 0.0)
    assert caught.value.retry_after_s == pytest.approx(6.0)
    other.end(0, 0.0)
    claim.end(30, 0.0)
    allowance = usage.tokens(0.0)
    assert allowance is not None and allowance.remaining == 70


def test_a_request_of_more_tokens_than_the_limit_begins_when_all_are_there_and_owes_what_it_used() -> None:
    usage = Usage(Limits(tokens_per_minute=100), 0.0)
    claim = usage.begin(1, 0.0)
    claim.reserve(1000, 0.0)
    assert refusal(usage, 0.0).retry_after_s == pytest.approx(0.6 * 901)
    claim.end(160, 0.0)
    assert refusal(usage, 0.0).retry_after_s == pytest.approx(0.6 * 61)
    usage.begin(1, 40.0)


def test_sequences_in_flight() -> None:
    usage = Usage(Limits(concurrency=3), 0.0)
    first = usage.begin(2, 0.0)
    assert (refusal(usage, 0.0, 2).code, refusal(usage, 0.0, 2).retry_after_s) == (ErrorCode.RATE_LIMITED, 1.0)
    second = usage.begin(1, 0.0)
    first.end(0, 0.0)
    usage.begin(2, 0.0).end(0, 0.0)
    second.end(0, 0.0)
    assert usage.is_idle
    assert refusal(usage, 0.0, 4).code is ErrorCode.INVALID_REQUEST  # it never could


def test_a_refused_request_leaves_nothing() -> None:
    usage = Usage(Limits(requests_per_minute=1, concurrency=5), 0.0)
    usage.begin(1, 0.0).end(0, 0.0)
    refusal(usage, 0.0)
    assert usage.is_idle


def test_without_limits_all_get_in() -> None:
    usage = Usage(Limits(), 0.0)
    for _ in range(100):
        usage.begin(64, 0.0).reserve(10**9, 0.0)
    assert usage.requests(0.0) is None and usage.tokens(0.0) is None


def test_each_tenant_has_its_own_and_those_without_a_key_go() -> None:
    usages = Usages()
    one, other = (Tenant(name, name, Limits(requests_per_minute=1)) for name in ("one", "other"))
    usages.of(one, 0.0).begin(1, 0.0)
    refusal(usages.of(one, 0.0), 0.0)
    usages.of(other, 0.0).begin(1, 0.0)
    usages.of(LOCAL, 0.0)
    usages.keep({"one"})
    assert len(usages) == 1
    refusal(usages.of(one, 1.0), 1.0)  # still what it was
