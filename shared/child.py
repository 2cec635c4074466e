"""Child processes that never outlive their parent, whatever kills it."""

import ctypes
import functools
import os
import signal
from collections.abc import Callable
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
_prctl: Final = ctypes.CDLL(None, use_errno=True).prctl


def dies_with_parent() -> Callable[[], None]:
    """A `preexec_fn`: the kernel kills the child when the thread that starts it ends, so use a lasting one."""
    return functools.partial(_die_with, os.getpid())


def _die_with(parent_pid: int) -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it ended before the call above
        os._exit(1)
