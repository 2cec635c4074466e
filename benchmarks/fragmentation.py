"""How much of the KV pool lies idle inside slabs that a model has taken, while four shape classes share it.

python -m benchmarks.fragmentation [--pool 32GiB] [--slab 25MiB chosen] [--use 0.75 0.85] [--move 0 2MiB] [--minutes 10]

The production pool (`gpu_worker/memory/slab_pool.py`) and the planner of its compaction on a virtual clock, no memory
behind it; in a round of 25 ms each of the four models has a step, and before each step at most `--move` bytes move.
Four models with blocks of different bytes get Poisson arrivals in turns of load: one of them is hot for a while, the
others cold. Prompts and outputs are as long as those of the conversation trace (`simulator/azure_trace.py`); a sequence
takes its prompt's blocks at once and grows by one token a step. Slabs of the size `chosen` are what a worker takes that
serves these models and is told nothing (`gpu_worker/memory/slab_size.py`).

Fragmentation = (bytes of taken slabs - bytes of blocks in use) / bytes of the pool, averaged over the time in which at
least 70 % of the pool is in use. Arrivals are admitted up to a share of the pool: where it is nearly full, little can
be idle whatever the pool does, so the lower shares are the harder ones, and the lowest is plotted.
"""

import argparse
import heapq
import random
from dataclasses import dataclass, field
from itertools import product
from typing import Final

from benchmarks.markdown import save_page, table
from benchmarks.plot import Line, Tick, chart
from benchmarks.report import circumstances, save, save_text
from gpu_worker.memory.compaction import choose_slab, num_blocks_to_move
from gpu_worker.memory.slab_pool import OutOfBlocks, ShapeClass, SlabPool
from gpu_worker.memory.slab_size import choose_slab_bytes
from shared.catalogue import KvShape
from shared.units import format_size, parse_size
from simulator.azure_trace import draw_lengths

GOAL: Final = 0.10
PUBLISHED: Final = 0.20  # Aegaeon, SOSP 2025
MIN_USE: Final = 0.7
BLOCK_TOKENS: Final = 16
QUANTUM_BYTES: Final = 4096
CHOSEN: Final = "chosen"
STEP_S: Final = 0.025  # of every running sequence, for one token
HOT_S: Final = 120.0  # until another model is the hot one
HOT_SHARE: Final = 0.6  # of the arrivals
SHAPES: Final = {
    "SmolLM2-135M": KvShape(30, 3, 64),
    "Qwen2.5-7B": KvShape(28, 4, 128),
    "Llama-3-8B": KvShape(32, 8, 128),
    "Llama-2-13B": KvShape(40, 40, 128),
}
BLOCK_BYTES: Final = {name: shape.token_bytes(2) * BLOCK_TOKENS for name, shape in SHAPES.items()}


@dataclass(order=True)
class Growing:
    """A sequence, until it needs its next block or ends."""

    at_s: float
    number: int
    shape: ShapeClass = field(compare=False)
    blocks: list[int] = field(compare=False)
    num_left: int = field(compare=False)  # tokens


@dataclass
class Sample:
    at_s: float
    used: float  # of the pool
    idle: float


class Simulation:
    """Arrivals keep `max_use` of the pool in use: whoever does not fit waits, and everybody behind."""

    def __init__(self, pool: SlabPool, max_use: float, seed: int, most_bytes: int) -> None:
        """most_bytes: to move between two steps."""
        self.pool = pool
        self.max_use = max_use
        self.rng = random.Random(seed)
        self.shapes = [pool.register(num_bytes) for num_bytes in BLOCK_BYTES.values()]
        self.running: list[Growing] = []
        self.samples: list[Sample] = []
        self.num_sequences = 0
        self.num_preempted = 0
        self.most_bytes = most_bytes
        self.moved_bytes = 0
        self.holder: dict[int, Growing] = {}  # block -> its sequence

    def run(self, seconds: float) -> None:
        now_s, next_sample_s, next_move_s = 0.0, 0.0, 0.0
        while now_s < seconds:
            self._admit(now_s)
            event = heapq.heappop(self.running)
            now_s = event.at_s
            self._advance(event, now_s)
            while self.most_bytes and now_s >= next_move_s:
                self._compact()
                next_move_s += STEP_S / len(self.shapes)  # in a round, each model has a step
            if now_s >= next_sample_s:
                self._sample(now_s)
                next_sample_s = now_s + 0.1

    def _admit(self, now_s: float) -> None:
        while self.pool.used_bytes < self.max_use * self.pool.total_bytes:
            hot = int(now_s / HOT_S) % len(self.shapes)
            others = [i for i in range(len(self.shapes)) if i != hot]
            shape = self.shapes[hot if self.rng.random() < HOT_SHARE else self.rng.choice(others)]
            num_prompt, num_output = draw_lengths(self.rng, "conv", divisor=1)
            blocks = self.pool.allocate(shape, -(-num_prompt // BLOCK_TOKENS))
            if isinstance(blocks, OutOfBlocks):
                return
            self.num_sequences += 1
            num_fit = min(num_output, len(blocks) * BLOCK_TOKENS - num_prompt + 1)
            at_s = now_s + num_fit * STEP_S
            sequence = Growing(at_s, self.num_sequences, shape, blocks, num_output - num_fit)
            self.holder.update(dict.fromkeys(blocks, sequence))
            heapq.heappush(self.running, sequence)

    def _advance(self, sequence: Growing, now_s: float) -> None:
        block = self.pool.allocate(sequence.shape, 1) if sequence.num_left else None
        if block is None or isinstance(block, OutOfBlocks):
            self.num_preempted += block is not None
            self.pool.free(sequence.shape, sequence.blocks)
            return
        sequence.blocks += block
        self.holder[block[0]] = sequence
        num_fit = min(sequence.num_left, BLOCK_TOKENS)
        sequence.num_left -= num_fit
        sequence.at_s = now_s + num_fit * STEP_S
        heapq.heappush(self.running, sequence)

    def _compact(self) -> None:
        slab = choose_slab(self.pool.stats(), self.pool.sparse_slabs())
        if slab is None:
            return
        leaving = self.pool.blocks_in(slab.number)[: num_blocks_to_move(slab, self.most_bytes)]
        for block_id, new_id in zip(leaving, self.pool.allocate_beside(slab, len(leaving)), strict=True):
            sequence = self.holder.pop(block_id)
            self.holder[new_id] = sequence
            sequence.blocks[sequence.blocks.index(block_id)] = new_id
        self.pool.free(slab.shape, leaving)
        self.moved_bytes += len(leaving) * slab.shape.block_bytes

    def _sample(self, now_s: float) -> None:
        stats = self.pool.stats()
        idle_bytes = stats.held_bytes - stats.used_bytes
        self.samples.append(Sample(now_s, stats.used_bytes / stats.total_bytes, idle_bytes / stats.total_bytes))


def averages(samples: list[Sample]) -> tuple[float, float, float]:
    """Mean idle share and mean use where the pool is in use enough, and the share of the time that this is."""
    busy = [sample for sample in samples if sample.used >= MIN_USE]
    return sum(s.idle for s in busy) / len(busy), sum(s.used for s in busy) / len(busy), len(busy) / len(samples)


def plot(samples: list[Sample], title: str) -> str:
    """Use and idle share over time."""
    lines = [
        Line("pool in use", [(sample.at_s, sample.used) for sample in samples]),
        Line("idle inside taken slabs", [(sample.at_s, sample.idle) for sample in samples]),
    ]
    ticks = [Tick(share, f"{share:.0%}") for share in (0.0, 0.1, 0.2, 0.5, 1.0)]
    return chart(title, lines, ticks, f"0 to {samples[-1].at_s / 60:.0f} minutes of virtual time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", default="32GiB")
    parser.add_argument("--slab", nargs="+", default=["16MiB", "25MiB", "64MiB", CHOSEN, "256MiB"])
    parser.add_argument("--use", type=float, nargs="+", default=[0.72, 0.8, 0.9])
    parser.add_argument("--move", nargs="+", default=["0", "2MiB"])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(circumstances())
    rows, results = [], {}
    pool_bytes = parse_size(options.pool)
    chosen_bytes = choose_slab_bytes(pool_bytes, BLOCK_BYTES.values(), QUANTUM_BYTES)
    for slab, max_use, most in product(options.slab, options.use, options.move):
        slab_bytes = chosen_bytes if slab == CHOSEN else parse_size(slab)
        size = format_size(slab_bytes)
        pool = SlabPool(pool_bytes, slab_bytes, QUANTUM_BYTES)
        simulation = Simulation(pool, max_use, options.seed, parse_size(most))
        simulation.run(options.minutes * 60)
        idle, used, busy = averages(simulation.samples)
        tails = sum(1 - s.blocks_per_slab * s.block_bytes / pool.slab_bytes for s in simulation.shapes) / len(SHAPES)
        moved_bytes_per_s = simulation.moved_bytes / (options.minutes * 60)
        results[f"{size} at {max_use:.0%}, {most} a step"] = {
            "idle": idle,
            "used": used,
            "busy": busy,
            "moved_bytes_per_s": moved_bytes_per_s,
            "sequences": simulation.num_sequences,
        }
        verdict = "met" if idle < GOAL else "missed"
        moved = f"{moved_bytes_per_s / 2**20:.0f} MiB/s" if parse_size(most) else "none"
        rows.append(
            [
                f"{size}, chosen" if slab == CHOSEN else size,
                moved,
                f"{idle:.1%} ({verdict})",
                f"{used:.0%}",
                f"{busy:.0%}",
                f"{tails:.1%}",
            ]
        )
        if max_use == min(options.use) and most == options.move[-1]:
            title = f"KV pool of {options.pool}, slabs of {size}, four shape classes: {idle:.1%} idle"
            save_text(f"fragmentation-{slab}.svg", plot(simulation.samples, title))
    sizes = ", ".join(f"{name} {format_size(num_bytes)}" for name, num_bytes in BLOCK_BYTES.items())
    paragraphs = [
        f"Blocks: {sizes}. Pool {options.pool}, {options.minutes:g} minutes of virtual time. Compaction moves at most "
        f"{options.move[-1]}, or one block, between two steps.",
        table(["slab", "moved", f"idle (goal < {GOAL:.0%})", "in use", "time at >= 70 % use", "tails"], rows),
        f"Tails: what slabs lose because their size is no multiple of a block's, averaged over the classes. "
        f"The published system: {PUBLISHED:.0%}.",
    ]
    print("\n\n".join(["", *paragraphs, ""]))
    print(save("fragmentation", results))
    print(save_page("fragmentation", "KV fragmentation", paragraphs))


if __name__ == "__main__":
    main()
