"""The peer to compare with: transformers' `generate`, in a process of its own that sleeps between runs."""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from transformers import AutoModelForCausalLM
from transformers.generation.streamers import BaseStreamer
from transformers.utils import logging

from benchmarks.load import Stream

_models: list[Any] = []  # in the peer's process: the one it runs


class GeneratePeer:
    """One batch at a time, with transformers' defaults (sdpa attention, dynamic cache)."""

    def __init__(self, folder: Path, dtype: str, num_threads: int) -> None:
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), _load, (folder, dtype, num_threads))
        self.pid = 0

    def __enter__(self) -> Self:
        """Returns when the model is loaded."""
        self.pid = self._pool.submit(os.getpid).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()

    def run(self, prompts: Sequence[Sequence[int]], num_tokens: int) -> list[Stream]:
        """All in one batch: the streams share their times. The prompts are equally long."""
        return self._pool.submit(_generate, prompts, num_tokens).result()


class _Stopwatch(BaseStreamer):
    """Hears of the prompts, then of every step's tokens."""

    def __init__(self) -> None:
        self.put_at_s: list[float] = []

    def put(self, value: torch.Tensor) -> None:
        self.put_at_s.append(time.monotonic())

    def end(self) -> None:
        pass


def _load(folder: Path, dtype: str, num_threads: int) -> None:
    torch.set_num_threads(num_threads)
    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    model.generation_config.eos_token_id = None  # ends at the limit alone
    _models.append(model)


def _generate(prompts: Sequence[Sequence[int]], num_tokens: int) -> list[Stream]:
    watch = _Stopwatch()
    started_at_s = time.monotonic()
    input_ids = torch.tensor(prompts)  # [batch, num_prompt_tokens] int64
    output = _models[0].generate(
        input_ids,
        attention_mask=torch.ones_like(input_ids),
        max_new_tokens=num_tokens,
        do_sample=False,
        pad_token_id=0,
        streamer=watch,
    )
    assert output.shape == (len(prompts), len(prompts[0]) + num_tokens)
    return [Stream(started_at_s, watch.put_at_s[1:], num_tokens)] * len(prompts)
