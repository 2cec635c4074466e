import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gpu_worker.memory.prefix_index import BlockKey, SharedBlocks, extend_chain, root_key
from gpu_worker.memory.slab_pool import OutOfBlocks, ShapeClass, SlabPool

QUANTUM, SLAB, BLOCK_TOKENS = 16, 64, 2
ROOT = root_key("m", "")


def chain(tokens: list[int], root: BlockKey = ROOT) -> list[BlockKey]:
    keys: list[BlockKey] = []
    extend_chain(keys, root, tokens, BLOCK_TOKENS)
    return keys


def test_a_key_names_its_tokens_all_before_them_the_model_and_the_salt() -> None:
    assert chain([1, 2, 3, 4]) == chain([1, 2, 3, 4, 5])
    assert chain([1, 2, 3, 4])[0] == chain([1, 2])[0]
    variants = [chain([1, 2, 3, 4])[-1], chain([9, 2, 3, 4])[-1], chain([3, 4])[-1], chain([1, 2, 4, 3])[-1]]
    roots = [("m", "tenant"), ("m2", ""), ("mt", "enant"), ("1:m", "")]
    variants += [chain([1, 2, 3, 4], root_key(content, salt))[-1] for content, salt in roots]
    assert len(set(variants)) == len(variants)
    assert {len(key) for key in variants} == {16}


def test_keys_grow_with_the_tokens() -> None:
    keys: list[BlockKey] = []
    for end in range(8):
        extend_chain(keys, ROOT, list(range(end)), BLOCK_TOKENS)
        assert keys == chain(list(range(end)))


def blocks(num_slabs: int = 2, *, keep: bool = True) -> tuple[SharedBlocks, ShapeClass]:
    shared = SharedBlocks(SlabPool(num_slabs * SLAB, SLAB, QUANTUM), keep=keep)
    return shared, shared.register(QUANTUM)


def filled(shared: SharedBlocks, shape: ShapeClass, tokens: list[int]) -> list[int]:
    """A sequence's blocks, computed and published."""
    keys = chain(tokens)
    block_ids = shared.allocate(shape, len(keys))
    assert isinstance(block_ids, list)
    return [shared.publish(block_id, key) for block_id, key in zip(block_ids, keys, strict=True)]


def test_what_its_sequence_left_is_found_again() -> None:
    shared, shape = blocks()
    one = filled(shared, shape, [1, 2, 3, 4])
    shared.free(one)
    assert (shared.used_bytes, shared.kept_bytes) == (0, 2 * QUANTUM)
    assert shared.match(chain([1, 2, 3, 4, 5, 6])) == one
    assert (shared.used_bytes, shared.kept_bytes) == (2 * QUANTUM, 0)


def test_of_two_equal_blocks_one_stays() -> None:
    shared, shape = blocks()
    one, two = filled(shared, shape, [1, 2, 3, 4]), filled(shared, shape, [1, 2, 9, 9])
    assert one[0] == two[0]
    assert shared.used_bytes == 3 * QUANTUM
    shared.free(one)
    assert shared.used_bytes == 2 * QUANTUM


def test_leaves_go_first_and_the_oldest_chain_before_others() -> None:
    shared, shape = blocks()  # 8 blocks
    old, new = [1, 2, 3, 4, 5, 6, 7, 8], [9, 9, 8, 8, 7, 7, 6, 6]
    for tokens in (old, new):
        shared.free(filled(shared, shape, tokens))
    assert isinstance(shared.allocate(shape, 3), list)
    assert [key in shared for key in chain(old)] == [True, False, False, False]
    assert all(key in shared for key in chain(new))


def test_without_keeping_nothing_is_found() -> None:
    shared, shape = blocks(keep=False)
    shared.free(filled(shared, shape, [1, 2]))
    assert (shared.used_bytes, shared.kept_bytes, shared.match(chain([1, 2]))) == (0, 0, [])


def test_freed_twice_is_an_error() -> None:
    shared, shape = blocks()
    one = filled(shared, shape, [1, 2])
    shared.free(one)
    with pytest.raises(ValueError, match="not in use"):
        shared.free(one)


def test_a_class_goes_with_what_is_kept_of_it_and_not_while_a_block_is_used() -> None:
    shared, shape = blocks()
    other = shared.register(2 * QUANTUM)
    block_ids = filled(shared, shape, [1, 2, 3, 4])
    assert not shared.unregister(shape)
    shared.free(block_ids)
    assert shared.kept_bytes == 2 * QUANTUM
    assert shared.unregister(shape)
    assert (shared.kept_bytes, shared.stats().num_free_slabs) == (0, shared.num_slabs)
    assert [known for known, _ in shared.slabs_by_class()] == [other]
    assert shared.match(chain([1, 2, 3, 4])) == []


class SharingMachine(RuleBasedStateMachine):
    """Sequences of two models with blocks of different bytes come, find what they can, compute the rest and go."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = SlabPool(4 * SLAB, SLAB, QUANTUM)
        self.shared = SharedBlocks(self.pool, keep=True)
        self.shapes = [self.shared.register(size) for size in (QUANTUM, 3 * QUANTUM)]
        self.live: list[tuple[list[int], int]] = []  # blocks, their number of tokens
        self.content: dict[int, tuple[int, ...]] = {}  # block -> model, then all tokens to its end

    @rule(model=st.integers(0, 1), tokens=st.lists(st.integers(0, 1), max_size=10))
    def come(self, model: int, tokens: list[int]) -> None:
        keys = chain(tokens, root_key(str(model), ""))
        found = self.shared.match(keys)
        for index, block_id in enumerate(found):
            assert self.content[block_id] == (model, *tokens[: (index + 1) * BLOCK_TOKENS])
        shape = self.shapes[model]
        num_free, num_missing = self.shared.num_free_blocks(shape), len(keys) - len(found) + 1
        fresh = self.shared.allocate(shape, num_missing)
        if isinstance(fresh, OutOfBlocks):
            assert num_free < num_missing
            self.shared.free(found)
            return
        assert num_free - num_missing == self.shared.num_free_blocks(shape)
        assert not set(fresh) & {block_id for block_ids, _ in self.live for block_id in block_ids} | set(found) & set(
            fresh
        )
        block_ids = [*found, *fresh]
        for index in range(len(found), len(keys)):
            self.content[block_ids[index]] = (model, *tokens[: (index + 1) * BLOCK_TOKENS])
            block_ids[index] = self.shared.publish(block_ids[index], keys[index])
        self.live.append((block_ids, len(tokens)))

    @rule(which=st.integers(0, 99))
    def go(self, which: int) -> None:
        if self.live:
            self.shared.free(self.live.pop(which % len(self.live))[0])

    @rule(num_blocks=st.integers(1, 3))
    def drop_oldest(self, num_blocks: int) -> None:
        for block_id, key, _ in self.shared.oldest_kept(num_blocks):
            self.shared.use(block_id)
            self.shared.drop(block_id)
            assert key not in self.shared

    @invariant()
    def counts_are_right(self) -> None:
        used = set(itertools.chain.from_iterable(block_ids for block_ids, _ in self.live))
        sizes = {block_id: shape.block_bytes for shape in self.shapes for block_id in self._taken(shape)}
        assert used <= sizes.keys(), "a block is free and used"
        assert self.shared.used_bytes == sum(sizes[block_id] for block_id in used)
        assert self.shared.used_bytes + self.shared.kept_bytes == self.pool.used_bytes == sum(sizes.values())

    def _taken(self, shape: ShapeClass) -> list[int]:
        return [block_id for block_id, block in self.shared._blocks.items() if block.shape == shape]

    @invariant()
    def kept_chains_are_usable(self) -> None:
        """Where a block is known, so are all before it."""
        known = {self.content[block_id] for block_id in self.shared._by_key.values()}
        assert all(len(tokens) <= BLOCK_TOKENS + 1 or tokens[:-BLOCK_TOKENS] in known for tokens in known)

    def teardown(self) -> None:
        for block_ids, _ in self.live:
            self.shared.free(block_ids)
        assert self.shared.used_bytes == 0
        assert all(self.shared.num_free_blocks(shape) == self.pool.capacity_blocks(shape) for shape in self.shapes)


TestSharingMachine = SharingMachine.TestCase
TestSharingMachine.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
