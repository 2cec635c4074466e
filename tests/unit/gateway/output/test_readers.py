from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from gateway.output.readers import Readers, furthest_behind
from shared.errors import ErrorCode, RequestError


@dataclass(eq=False)
class Behind:
    num_unread: int
    errors: list[RequestError] = field(default_factory=list)

    def abandon(self, error: RequestError) -> None:
        self.errors.append(error)
        self.num_unread = 0


def test_within_the_bound_nobody_is_ended() -> None:
    readers = [Behind(40), Behind(60), Behind(0)]
    Readers(lambda: readers, max_unread=100).look()
    assert [reader.errors for reader in readers] == [[], [], []]


def test_beyond_it_who_left_most_unread_is_told_and_no_more_than_that() -> None:
    readers = [Behind(40), Behind(70), Behind(0), Behind(20)]
    Readers(lambda: readers, max_unread=100).look()
    assert [[error.code for error in reader.errors] for reader in readers] == [[], [ErrorCode.CLIENT_TOO_SLOW], [], []]


@given(st.lists(st.integers(0, 100), max_size=20), st.integers(0, 500))
def test_the_rest_is_within_the_bound_and_one_less_would_not_do(unread: list[int], bound: int) -> None:
    readers = [Behind(num) for num in unread]
    ended = furthest_behind(readers, bound)
    left = sum(unread) - sum(reader.num_unread for reader in ended)
    assert left <= bound
    if ended:
        assert left + ended[-1].num_unread > bound
    kept = [reader.num_unread for reader in readers if reader not in ended]
    assert max(kept, default=0) <= min((reader.num_unread for reader in ended), default=100)
