"""What both runs are made of: models, memory for some of them, prompts."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.tiny_models import CONTEXT_LENGTH, VOCAB_SIZE, make_tiny_model
from shared.config import ModelSource, WorkerConfig
from shared.ids import ModelName

FAMILIES: Final = ("llama", "llama_tied", "qwen2", "mistral", "gemma3")  # five shape classes, less than 2 MiB each
NUM_STREAMS: Final = 16  # at the same time
LEAVES_EVERY: Final = 20  # of so many clients, one does not stay until the end
_KV_BYTES: Final = 768 << 10
_HEAD_TOKENS: Final = 48
_NUM_HEADS: Final = 4  # per model
_MAX_TAIL_TOKENS: Final = 64
_MAX_NEW_TOKENS: Final = 24

# Two of the five models fit the 4 MiB beside KV, as the arena rounds to 2 MiB; what runs does not fit KV either.
MEMORY: Final = WorkerConfig(
    dtype="float32",
    num_threads=1,
    device_memory_bytes=_KV_BYTES + (4 << 20),
    kv_memory_bytes=_KV_BYTES,
    host_kv_memory_bytes=_KV_BYTES,
    host_memory_bytes=64 << 20,
    slab_bytes=64 << 10,
    policy="round-robin",  # switches most
    turn_steps=2,
    link_bandwidth_bytes=2 << 30,
)


class Task(NamedTuple):
    """What one client asks."""

    model: ModelName
    prompt: list[int]  # token ids
    num_tokens: int
    leaves: bool  # after its first token


class Tasks:
    """The same sequence of tasks in every run."""

    def __init__(self, sources: Sequence[ModelSource], num: int | None = None) -> None:
        """num: how many there are; None: as many as somebody takes."""
        self.num_taken = 0
        self._num = num
        self._names = [ModelName(source.name) for source in sources]
        self._rng = random.Random(0)
        self._heads = [self._tokens(_HEAD_TOKENS) for _ in range(_NUM_HEADS)]

    def take(self) -> Task | None:
        if self.num_taken == self._num:
            return None
        self.num_taken += 1
        prompt = self._rng.choice(self._heads) + self._tokens(self._rng.randint(1, _MAX_TAIL_TOKENS))
        num_tokens = self._rng.randint(1, _MAX_NEW_TOKENS)
        assert len(prompt) + num_tokens < CONTEXT_LENGTH
        return Task(self._rng.choice(self._names), prompt, num_tokens, self.num_taken % LEAVES_EVERY == 0)

    def _tokens(self, num: int) -> list[int]:
        return [self._rng.randrange(VOCAB_SIZE) for _ in range(num)]


def make_models(folder: Path) -> list[ModelSource]:
    return [ModelSource(family, str(make_tiny_model(family, folder / family))) for family in FAMILIES]
