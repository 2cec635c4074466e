"""Lets the machine's other work go first for a while, without a privilege to come back.

Linux shares cores between sessions before it shares them within one (sched(7), "The autogroup feature"), and anyone may
set a session's niceness back to 0, unlike a process's. Where there is no such feature, nothing changes.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_AUTOGROUP: Final = Path("/proc/self/autogroup")
_NICENESS: Final = 10  # a tenth of an equal share
_ATTEMPTS: Final = 50
_PAUSE_S: Final = 0.1  # Linux takes one change in this time from all sessions without privileges


@contextmanager
def others_first(autogroup: Path = _AUTOGROUP) -> Iterator[None]:
    """Where this process leads a session: else it is not its own to change."""
    changed = os.getsid(0) == os.getpid() and _set_niceness(autogroup, _NICENESS, attempts=1)
    try:
        yield
    finally:
        if changed:
            _set_niceness(autogroup, 0, _ATTEMPTS)


def _set_niceness(autogroup: Path, niceness: int, attempts: int) -> bool:
    for attempt in range(attempts):
        if attempt:
            time.sleep(_PAUSE_S)
        try:
            with autogroup.open("r+", buffering=1) as file:  # r+: where it is missing, nothing is made
                file.write(f"{niceness}\n")
        except BlockingIOError:
            continue
        except OSError:
            return False
        return True
    return False
