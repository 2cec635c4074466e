"""What a host keeps in memory, and who goes."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from gpu_worker.host_cache.policy import HALF_LIFE_S, PAGE_BYTES, CachePolicy, MappingId
from gpu_worker.host_cache.protocol import BlobId

A, B, C, D = (BlobId(name) for name in "abcd")
PAGE = PAGE_BYTES


class Policy(CachePolicy):
    def put(self, blob: BlobId, num_pages: int, *, reload_s: float | None = None, now_s: float = 0.0) -> None:
        """Filled and mapped by nobody; by default, all are read at the same speed."""
        self.reserve(blob, num_pages * PAGE, now_s)
        self.fill(blob, num_pages if reload_s is None else reload_s)

    def leave(self, num_pages: int, now_s: float = 0.0) -> set[BlobId]:
        """Who goes for so many pages where nobody maps anything."""
        assert self.ask_to_leave(num_pages * PAGE, now_s) == []
        return set(self.gone())


def test_bytes_count_in_whole_pages() -> None:
    policy = CachePolicy(2 * PAGE)
    policy.reserve(A, PAGE + 1, 0.0)
    assert (policy.used_bytes, policy.free_bytes) == (2 * PAGE, 0)
    with pytest.raises(ValueError, match="4096 bytes exceed the 0 free"):
        policy.reserve(B, 1, 0.0)


def test_the_one_that_is_used_least_goes() -> None:
    policy = Policy(3 * PAGE)
    for blob, num_uses in ((A, 3), (B, 1), (C, 2)):
        policy.put(blob, 1)
        for _ in range(num_uses):
            policy.note_use(blob, 0.0)
    assert policy.leave(1) == {B}
    assert policy.leave(2) == {C}


def test_what_is_dropped_goes_when_nobody_maps_it_unless_it_is_mapped_anew() -> None:
    policy = Policy(4 * PAGE)
    for blob in (A, B, C):
        policy.put(blob, 1)
    policy.map(A, (1, 1))
    policy.map(A, (2, 1))
    for blob in (A, B, C, D):  # of which the last one is not there
        policy.drop(blob)
    policy.map(C, (1, 2))
    assert policy.gone() == [B]
    policy.unmap(A, (1, 1))
    policy.unmap(C, (1, 2))
    assert policy.gone() == [] and policy.offers(A)
    policy.unmap(A, (2, 1))
    assert policy.gone() == [A]


def test_what_is_being_filled_is_not_dropped() -> None:
    policy = Policy(PAGE)
    policy.reserve(A, PAGE, 0.0)
    policy.drop(A)
    policy.fill(A, 1.0)
    assert policy.gone() == [] and policy.offers(A)


def test_the_one_that_is_dear_to_read_stays() -> None:
    policy = Policy(2 * PAGE)
    policy.put(A, 1, reload_s=0.1)
    policy.put(B, 1, reload_s=10.0)
    policy.note_use(A, 0.0)
    assert policy.leave(1) == {A}


def test_uses_fade() -> None:
    policy = Policy(2 * PAGE)
    policy.put(A, 1)
    for _ in range(6):
        policy.note_use(A, 0.0)  # 7 with the first, and less than 2 after two half-lives
    policy.put(B, 1)
    later_s = 2 * HALF_LIFE_S
    policy.note_use(B, later_s)
    policy.note_use(B, later_s)
    assert policy.leave(1, later_s) == {A}


def test_a_small_one_does_not_go_in_vain() -> None:
    """The least valuable per byte is too small, so another goes that alone is enough."""
    policy = Policy(5 * PAGE)
    policy.put(A, 1)
    policy.put(B, 4)
    policy.note_use(B, 0.0)
    assert policy.leave(4) == {B}


def test_free_room_counts_and_what_is_leaving_already() -> None:
    policy = Policy(4 * PAGE)
    policy.put(A, 1)
    policy.put(B, 1)
    policy.put(C, 1)
    policy.map(A, (1, 1))
    assert policy.ask_to_leave(2 * PAGE, 0.0) == [(1, 1)]
    assert policy.ask_to_leave(2 * PAGE, 0.0) == []
    assert policy.gone() == []
    policy.unmap(A, (1, 1))
    assert policy.gone() == [A]
    assert policy.free_bytes == 2 * PAGE


def test_who_is_leaving_takes_no_new_mapping_until_it_stays_after_all() -> None:
    policy = Policy(PAGE)
    policy.put(A, 1)
    policy.map(A, (1, 1))
    policy.ask_to_leave(PAGE, 0.0)
    assert not policy.offers(A)
    with pytest.raises(ValueError, match="can't be mapped"):
        policy.map(A, (2, 1))
    policy.stay()
    policy.map(A, (2, 1))


def test_what_is_being_filled_is_neither_offered_nor_asked_to_go() -> None:
    policy = CachePolicy(PAGE)
    policy.reserve(A, PAGE, 0.0)
    assert not policy.offers(A)
    assert policy.ask_to_leave(PAGE, 0.0) == []
    assert (policy.gone(), policy.free_bytes) == ([], 0)
    policy.abandon(A)
    assert policy.free_bytes == PAGE


class PolicyMachine(RuleBasedStateMachine):
    """Any order of events, against a table of what is there and who maps it."""

    filling = Bundle("filling")
    mappings = Bundle("mappings")

    def __init__(self) -> None:
        super().__init__()
        self.total = 12 * PAGE
        self.policy = CachePolicy(self.total)
        self.sizes: dict[BlobId, int] = {}
        self.filled: set[BlobId] = set()
        self.mapped: dict[BlobId, set[MappingId]] = {}
        self.num_blobs = self.num_mappings = 0
        self.now_s = 0.0

    @rule(target=filling, num_pages=st.integers(1, 6))
    def reserve(self, num_pages: int) -> object:
        if num_pages * PAGE > self.policy.free_bytes:
            return multiple()
        self.num_blobs += 1
        blob = BlobId(str(self.num_blobs))
        self.policy.reserve(blob, num_pages * PAGE, self.now_s)
        self.sizes[blob] = num_pages * PAGE
        return blob

    @rule(blob=consumes(filling), read_s=st.floats(0.001, 100.0))
    def fill(self, blob: BlobId, read_s: float) -> None:
        self.policy.fill(blob, read_s)
        self.filled.add(blob)

    @rule(blob=consumes(filling))
    def abandon(self, blob: BlobId) -> None:
        self.policy.abandon(blob)
        del self.sizes[blob]

    @rule(target=mappings, which=st.integers(0, 100), elapsed_s=st.floats(0.0, 1000.0))
    def use(self, which: int, elapsed_s: float) -> object:
        self.now_s += elapsed_s
        offered = sorted(blob for blob in self.filled if self.policy.offers(blob))
        if not offered:
            return multiple()
        blob = offered[which % len(offered)]
        self.num_mappings += 1
        self.policy.note_use(blob, self.now_s)
        self.policy.map(blob, (1, self.num_mappings))
        self.mapped.setdefault(blob, set()).add((1, self.num_mappings))
        return blob, (1, self.num_mappings)

    @rule(mapping=consumes(mappings))
    def unmap(self, mapping: tuple[BlobId, MappingId]) -> None:
        self.policy.unmap(*mapping)
        self.mapped[mapping[0]].remove(mapping[1])

    @rule(num_pages=st.integers(1, 12))
    def make_room(self, num_pages: int) -> None:
        offered = {blob for blob in self.filled if self.policy.offers(blob)}
        asked = self.policy.ask_to_leave(num_pages * PAGE, self.now_s)
        leaving = {blob for blob in self.filled if not self.policy.offers(blob)}
        assert set(asked) == {m for blob in leaving & offered for m in self.mapped.get(blob, ())}
        room = self.policy.free_bytes + sum(self.sizes[blob] for blob in leaving)
        assert room >= num_pages * PAGE or leaving == self.filled
        self.forget()

    @rule()
    def stay(self) -> None:
        self.policy.stay()
        assert all(self.policy.offers(blob) for blob in self.filled)

    @rule()
    def forget(self) -> None:
        for blob in self.policy.gone():
            assert blob in self.filled and not self.mapped.get(blob)
            self.filled.remove(blob)
            del self.sizes[blob]

    @invariant()
    def free_and_used_are_all_and_nothing_in_use_is_gone(self) -> None:
        assert self.policy.used_bytes == sum(self.sizes.values())
        assert self.policy.free_bytes + self.policy.used_bytes == self.total
        assert self.policy.free_bytes >= 0


TestPolicyMachine = PolicyMachine.TestCase
