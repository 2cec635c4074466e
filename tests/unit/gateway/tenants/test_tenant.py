import pytest

from gateway.tenants.tenant import BUS, LOCAL, NOBODY, Limits, Tenant, tenant_of
from shared.api_keys import ApiKey


def test_a_key_becomes_its_tenant() -> None:
    key = ApiKey(
        id="key-1", name="a", sha256="0" * 64, created=1, models=("m",), requests_per_minute=2, priority=3
    )  # fmt: skip
    assert tenant_of(key) == Tenant("key-1", "a", Limits(requests_per_minute=2), frozenset({"m"}), 3)


def test_no_two_tenants_share_kept_kv() -> None:
    tenants = [LOCAL, BUS, NOBODY, Tenant("a", "same"), Tenant("b", "same")]
    assert len({tenant.cache_salt for tenant in tenants}) == len(tenants)
    assert Tenant("a", "x").cache_salt == Tenant("a", "y").cache_salt


def test_models() -> None:
    assert LOCAL.may_use("any") and not NOBODY.may_use("any")
    assert [Tenant("a", "a", models=frozenset({"m"})).may_use(name) for name in ("m", "n")] == [True, False]


@pytest.mark.parametrize(
    ("most", "asked", "gets"),
    [(None, None, 7), (None, -5, -5), (2, None, 2), (2, -5, 2), (2, 2, 2), (2, 9, 9)],
)
def test_nobody_is_more_urgent_than_the_key_allows(most: int | None, asked: int | None, gets: int) -> None:
    assert Tenant("a", "a", priority=most).urgency(asked, default=7) == gets
