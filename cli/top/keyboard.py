"""Single keys from a terminal, without Enter."""

import asyncio
import contextlib
import os
import sys
import termios
import tty
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def keys_to(on_key: Callable[[str], None]) -> Iterator[None]:
    """Each key, in the running loop; nothing where standard input is no terminal. Ctrl-C stays a signal."""
    if not sys.stdin.isatty():
        yield
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    loop = asyncio.get_running_loop()

    def read() -> None:
        typed = os.read(fd, 64)
        if not typed:  # the terminal is gone
            loop.remove_reader(fd)
        for key in typed.decode(errors="replace"):
            on_key(key)

    tty.setcbreak(fd)
    loop.add_reader(fd, read)
    try:
        yield
    finally:
        loop.remove_reader(fd)
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
