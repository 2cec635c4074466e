"""A device whose copies do nothing until a test lets them: a block that is reused too early shows in its bytes."""

from collections.abc import Callable, Sequence

from torch import Tensor

from tests.unit.gpu_worker.stand_ins import SmallBlocks


class HeldCopy:
    def __init__(
        self, copy: Callable[[], None], on_done: Callable[[], None], ends: Sequence[tuple[Tensor, int]]
    ) -> None:
        self.ends = ends  # (region, byte offset) of each block that it reads or writes
        self._copy = copy
        self._on_done = on_done
        self._is_done = False
        self._error: Exception | None = None

    def let(self) -> None:
        self._copy()
        self._end()

    def fail(self) -> None:
        self._error = RuntimeError("bad memory")
        self._end()

    def _end(self) -> None:
        self._is_done = True
        self._on_done()

    def done(self) -> bool:
        return self._is_done

    def wait(self) -> None:
        assert self._is_done, "somebody waits for a copy"
        if self._error:
            raise self._error


class HeldDevice(SmallBlocks):
    def __init__(self) -> None:
        super().__init__(unified=True)
        self.held: list[HeldCopy] = []

    def copy_blocks(
        self,
        destination: Tensor,
        source: Tensor,
        offsets: Sequence[tuple[int, int]],
        block_bytes: int,
        on_done: Callable[[], None],
    ) -> HeldCopy:
        def copy() -> None:
            for into, out_of in offsets:
                destination[into : into + block_bytes] = source[out_of : out_of + block_bytes]

        ends = [(region, at) for pair in offsets for region, at in zip((destination, source), pair, strict=True)]
        self.held.append(HeldCopy(copy, on_done, ends))
        return self.held[-1]
