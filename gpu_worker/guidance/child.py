"""A process that follows the grammars of one model: `python -m gpu_worker.guidance.child FOLDER BEGIN STEP MEMORY`.

FOLDER is the model's in the catalogue, the others are descriptors: of two connections and of the memory for masks. It
ends when its worker does.
"""

import mmap
import os
import socket
import sys
from pathlib import Path
from threading import Thread
from typing import Final, cast

import numpy as np
from llguidance import LLExecutor, LLMatcher
from llguidance.numpy import fill_next_token_bitmask_par
from numpy.typing import NDArray

from gpu_worker.guidance.grammars import Grammars
from gpu_worker.guidance.guide import Guide
from gpu_worker.guidance.protocol import (
    Accept,
    Accepted,
    Begin,
    Begun,
    Fill,
    Filled,
    State,
    begin_decoder,
    receive,
    send,
    step_decoder,
)
from shared.errors import GrammarError
from shared.machine import num_cores
from shared.priority import others_first

_MAX_THREADS: Final = 4  # on a CPU the forward pass wants the cores, too
_MAX_MESSAGE_CHARS: Final = 400


class Child:
    """Begins on one thread while steps are served on another. A guide is known from its Begun on."""

    def __init__(self, folder: Path, memory: mmap.mmap) -> None:
        self._grammars = Grammars(folder)
        self._is_open = False  # the tokenizer has been read
        self._words: NDArray[np.int32] = np.frombuffer(memory, np.int32)
        self._guides: dict[int, Guide] = {}
        self._threads = LLExecutor(num_threads=max(1, min(_MAX_THREADS, num_cores() // 4)))

    def begin(self, asked: Begin) -> Begun:
        self._forget(asked.forgotten)
        try:
            if not self._is_open:
                with others_first():  # nobody waits for a mask yet
                    self._grammars.open()
                self._is_open = True
            guide = self._grammars.guide(asked.grammar, asked.output)
        except GrammarError as error:
            return Begun(reason=str(error), is_clients_fault=True)
        except Exception as error:
            return Begun(reason=f"it could not be compiled ({type(error).__name__}: {error})"[:_MAX_MESSAGE_CHARS])
        self._guides[asked.key] = guide
        return Begun(_state(guide), num_words=_num_words(guide))

    def fill(self, asked: Fill) -> Filled:
        self._forget(asked.forgotten)
        guides = [self._guides[row.key] for row in asked.rows]
        shape = len(guides), _num_words(guides[0])  # all have the model's vocabulary
        masks = self._words[: shape[0] * shape[1]].reshape(shape)
        masks.fill(-1)  # nobody else writes beyond the vocabulary, or for a guide that has failed
        matchers = [(cast(LLMatcher, guide.matcher), row) for row, guide in enumerate(guides)]
        fill_next_token_bitmask_par(self._threads, matchers, masks)
        for bits, guide, row in zip(masks.view(np.uint32), guides, asked.rows, strict=True):
            guide.settle(bits, row.stop_ids, may_stop=row.may_stop)
        return Filled(asked.number, tuple(map(_state, guides)))

    def accept(self, asked: Accept) -> Accepted:
        guides = [self._guides[key] for key, _ in asked.tokens]
        belong = tuple(g.accept(token_id, is_stop=False) for g, (_, token_id) in zip(guides, asked.tokens, strict=True))
        return Accepted(asked.number, belong, tuple(map(_state, guides)))

    def _forget(self, keys: tuple[int, ...]) -> None:
        for key in keys:
            self._guides.pop(key, None)


def _state(guide: Guide) -> State:
    return State(guide.failure, guide.is_complete)


def _num_words(guide: Guide) -> int:
    return -(-guide.num_ids // 32)


def serve_steps(child: Child, connection: socket.socket) -> None:
    try:
        while True:
            asked = receive(connection, step_decoder)
            send(connection, child.fill(asked) if isinstance(asked, Fill) else child.accept(asked))
    finally:  # a step waits for nobody who can't answer
        os._exit(1)


def main(folder: str, begin: str, step: str, memory: str) -> None:
    child = Child(Path(folder), mmap.mmap(int(memory), 0))
    begins, steps = socket.socket(fileno=int(begin)), socket.socket(fileno=int(step))
    Thread(target=serve_steps, args=(child, steps), daemon=True).start()
    try:
        while True:
            send(begins, child.begin(receive(begins, begin_decoder)))
    except OSError:  # the worker is gone: nothing here is worth an orderly end
        os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
