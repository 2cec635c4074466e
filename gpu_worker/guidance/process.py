"""A worker's end of a process that follows the grammars of one model.

llguidance holds the GIL while it reads a tokenizer, for seconds where that is large, and a crash of it would be the
worker's: so it is in no process with a token loop.
"""

import logging
import mmap
import os
import socket
import subprocess
import sys
import weakref
from collections import deque
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from gpu_worker.guidance.protocol import (
    MAX_WORDS,
    Accept,
    Accepted,
    Begin,
    Fill,
    Filled,
    Row,
    State,
    begun_decoder,
    receive,
    reply_decoder,
    send,
)
from shared.errors import GrammarError, KottosError

log = logging.getLogger(__name__)

_WORD_BYTES: Final = 4
_STEP_S: Final = 30.0  # for one reply in a step; masks take milliseconds at most

Reply = TypeVar("Reply", Filled, Accepted)


class GuidesLost(KottosError):
    """The process ended: its guides are gone, and it can be started again as another one."""


class ProcessGuide:
    """What one sequence may still say, as its process knows it. Written by the step that draws the sequence's token."""

    def __init__(self, process: "GrammarProcess", key: int, state: State, num_words: int) -> None:
        self.process = process
        self.key = key
        self.num_words = num_words  # of its masks
        self.failure = state.failure
        self.is_complete = state.is_complete  # no token may follow
        self._belongs: tuple[int, bool] | None = None  # the token that was drawn, and whether it does

    @property
    def is_lost(self) -> bool:
        return self.process.is_lost

    def note(self, state: State) -> None:
        self.failure, self.is_complete = state.failure, state.is_complete

    def judge(self, token_id: int, belongs: bool) -> None:
        self._belongs = token_id, belongs

    def accept(self, token_id: int, *, is_stop: bool) -> bool:
        """Whether a token that was drawn belongs to the output. is_stop: it ends the sequence."""
        judged, self._belongs = self._belongs, None
        if judged is not None:
            assert judged[0] == token_id, "a step's tokens are judged in the step"
            return judged[1]
        return is_stop and not (self.failure or self.is_complete or self.is_lost)


class GrammarProcess:
    """Started by the first guide. Guides are begun by threads beside the token loop; steps come one after the other."""

    def __init__(self, folder: Path, max_rows: int) -> None:
        """folder: of the model in the catalogue. max_rows: of guided sequences in a step."""
        self._folder = folder
        self._memory_bytes = max_rows * MAX_WORDS * _WORD_BYTES  # of addresses: pages come with the first use
        self.is_lost = False
        self._numbers = count(1)
        self._live: set[int] = set()  # guides that somebody has
        self._forgotten: deque[int] = deque()  # guides that nobody has any more, and the child does not know it
        self._lock = Lock()  # of beginning
        self._child: subprocess.Popen[bytes] | None = None
        self._begins: socket.socket
        self._steps: socket.socket
        self._words: NDArray[np.int32]  # shared: masks, one after the other
        self._is_closed = False

    @property
    def is_idle(self) -> bool:
        """Nobody has a guide of it, or waits for one."""
        return not self._live and not self._lock.locked()

    # --- beside the token loop ------------------------------------------------------------------

    def guide(self, grammar: str, output: Sequence[int]) -> ProcessGuide:
        """Where the output that the client has got leaves off. Raises GrammarError, GuidesLost, KottosError."""
        with self._lock:
            if self.is_lost:
                raise GuidesLost("the process that followed grammars was lost")
            key = next(self._numbers)
            try:
                if self._child is None:
                    self._start()
                send(self._begins, Begin(key, grammar, tuple(output), self._take_forgotten()))
                begun = receive(self._begins, begun_decoder)
            except OSError as error:
                raise self._lose(error) from error
        if begun.is_clients_fault:
            raise GrammarError(begun.reason)
        if begun.reason:
            raise KottosError(begun.reason)
        guide = ProcessGuide(self, key, begun.state, begun.num_words)
        self._live.add(key)
        weakref.finalize(guide, self._forget, key).atexit = False
        return guide

    def close(self) -> None:
        """Whoever waits for it hears that it is lost."""
        self._is_closed = self.is_lost = True
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    # --- in a step ------------------------------------------------------------------------------

    def ask_masks(self, rows: Sequence[Row]) -> int:
        """Begins to compute them; the number is for `masks`. Waits for nothing."""
        number = next(self._numbers)
        self._send(Fill(number, tuple(rows), self._take_forgotten()))
        return number

    def masks(self, number: int, guides: Sequence[ProcessGuide]) -> NDArray[np.int32] | None:
        """[num_guides, num_words], until the next ones are asked for; None where it is lost. Notes
        what became of guides."""
        filled = self._receive(number, Filled)
        if filled is None:
            return None
        for guide, state in zip(guides, filled.states, strict=True):
            guide.note(state)
        shape = len(guides), guides[0].num_words
        return self._words[: shape[0] * shape[1]].reshape(shape)

    def judge(self, drawn: Sequence[tuple[ProcessGuide, int]]) -> None:
        """Notes whether each token belongs to its output; where it is lost, none does."""
        number = next(self._numbers)
        self._send(Accept(number, tuple((guide.key, token_id) for guide, token_id in drawn)))
        accepted = self._receive(number, Accepted)
        if accepted is None:
            return
        for (guide, token_id), belongs, state in zip(drawn, accepted.belong, accepted.states, strict=True):
            guide.note(state)
            guide.judge(token_id, belongs)

    # --- the process ----------------------------------------------------------------------------

    def _start(self) -> None:
        self._begins, begins = socket.socketpair()
        self._steps, steps = socket.socketpair()
        self._steps.settimeout(_STEP_S)
        memory = os.memfd_create("kottos-masks")
        try:
            os.ftruncate(memory, self._memory_bytes)
            self._words = np.frombuffer(mmap.mmap(memory, self._memory_bytes), np.int32)
            inherited = [begins.fileno(), steps.fileno(), memory]
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", "gpu_worker.guidance.child", str(self._folder), *map(str, inherited)],
                env={name: value for name, value in os.environ.items() if not name.startswith("KOTTOS_")},
                stdin=subprocess.DEVNULL,
                pass_fds=inherited,
                start_new_session=True,  # a terminal's Ctrl-C is for the worker
            )
        finally:
            begins.close()
            steps.close()
            os.close(memory)

    def _send(self, message: Fill | Accept) -> None:
        if not self.is_lost:
            try:
                send(self._steps, message)
            except OSError as error:
                self._lose(error)

    def _receive(self, number: int, kind: type[Reply]) -> Reply | None:
        """Skips what a step that failed has left."""
        while not self.is_lost:
            try:
                reply = receive(self._steps, reply_decoder)
            except OSError as error:
                self._lose(error)
                break
            if reply.number == number:
                assert isinstance(reply, kind)
                return reply
        return None

    def _lose(self, error: OSError) -> GuidesLost:
        if not self._is_closed:
            log.error("the process that follows grammars for %s is lost: %s", self._folder, error)
            self.close()
        return GuidesLost("the process that followed the grammar was lost")

    def _forget(self, key: int) -> None:
        """In whatever thread its guide went."""
        self._live.discard(key)
        self._forgotten.append(key)

    def _take_forgotten(self) -> tuple[int, ...]:
        """A guide's key is sent once, on whichever connection has its next message first."""
        return tuple(self._forgotten.popleft() for _ in range(len(self._forgotten)))
