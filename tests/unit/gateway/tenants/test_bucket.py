import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.tenants.bucket import Bucket

ROUNDING = 1e-5


def test_a_minutes_worth_at_once_and_then_as_it_is_refilled() -> None:
    bucket = Bucket(60, now_s=100.0)
    bucket.take(60, 100.0)
    assert bucket.wait_s(1, 100.0) == pytest.approx(1.0)
    assert bucket.wait_s(1, 100.5) == pytest.approx(0.5)
    assert bucket.wait_s(1, 101.0) == 0.0
    assert bucket.wait_s(60, 101.0) == pytest.approx(59.0)
    assert bucket.full_in_s(101.0) == pytest.approx(59.0)


def test_it_never_holds_more_than_its_size() -> None:
    bucket = Bucket(60, now_s=0.0)
    assert bucket.level(1e6) == 60
    bucket.take(10, 1e6)
    bucket.take(-50, 1e6)
    assert bucket.level(1e6) == 60


def test_more_than_it_holds_waits_until_it_is_full_and_is_paid_back() -> None:
    bucket = Bucket(60, now_s=0.0)
    bucket.take(10, 0.0)
    assert bucket.wait_s(600, 0.0) == pytest.approx(10.0)
    assert bucket.wait_s(600, 10.0) == 0.0
    bucket.take(600, 10.0)
    assert bucket.wait_s(1, 10.0) == pytest.approx(541.0)
    bucket.take(-580, 10.0)  # that much was not used
    assert bucket.level(10.0) == pytest.approx(40)


def test_a_clock_that_stands_still_or_steps_back_refills_nothing() -> None:
    bucket = Bucket(60, now_s=50.0)
    bucket.take(60, 50.0)
    assert bucket.level(40.0) == bucket.level(50.0) == 0
    bucket.take(1, 40.0)
    assert bucket.level(52.0) == pytest.approx(1.0)


@given(st.integers(1, 10**9), st.floats(0, 1e6), st.integers(1, 10**9))
def test_the_wait_is_as_long_as_it_has_to_be(size: int, at_s: float, amount: int) -> None:
    bucket = Bucket(size, at_s)
    bucket.take(size, at_s)
    wait_s = bucket.wait_s(amount, at_s)
    assert 0 < wait_s <= 60 + 1e-6
    assert bucket.wait_s(amount, at_s + wait_s * (1 + 1e-9) + 1e-6) == 0.0
    assert bucket.wait_s(amount, at_s + wait_s / 2) > 0


class BucketMachine(RuleBasedStateMachine):
    """Whoever asks before taking gets no more than the size and what was refilled, in whatever span of time."""

    size = 100

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.bucket = Bucket(self.size, 0.0)
        self.taken: list[tuple[float, float]] = []  # instants and amounts

    @rule(seconds=st.floats(0, 200))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @rule(amount=st.integers(1, 100))
    def ask(self, amount: int) -> None:
        if self.bucket.wait_s(amount, self.now_s) == 0:
            self.bucket.take(amount, self.now_s)
            self.taken.append((self.now_s, amount))

    @precondition(lambda self: self.taken)
    @rule(share=st.floats(0, 1))
    def give_back(self, share: float) -> None:
        at_s, amount = self.taken[-1]
        self.bucket.take(-share * amount, self.now_s)
        self.taken[-1] = (at_s, amount * (1 - share))

    @invariant()
    def no_span_has_more_than_its_share(self) -> None:
        for first, (began_s, _) in enumerate(self.taken):
            total = 0.0
            for ended_s, amount in self.taken[first:]:
                total += amount
                assert total <= self.size * (1 + (ended_s - began_s) / 60) + ROUNDING

    @invariant()
    def it_owes_nothing_and_holds_no_more_than_its_size(self) -> None:
        assert -ROUNDING <= self.bucket.level(self.now_s) <= self.size


TestBucket = BucketMachine.TestCase
