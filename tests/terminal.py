"""A program on a terminal that a test reads and types at. The terminal is pyte's, in memory."""

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import struct
import termios
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import pyte

from shared.child import dies_with_parent


class Terminal:
    def __init__(self, process: asyncio.subprocess.Process, master: int, screen: pyte.Screen) -> None:
        self._process = process
        self._master = master
        self._screen = screen
        self._stream = pyte.ByteStream(screen)
        self._news = asyncio.Event()
        asyncio.get_running_loop().add_reader(master, self._read)

    @property
    def text(self) -> str:
        """What is on the screen now."""
        return "\n".join(line.rstrip() for line in self._screen.display)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def interrupt(self) -> None:
        """Ctrl-C, as the terminal sends it to whoever is in the foreground."""
        self.type("\x03")

    async def shows(self, *texts: str) -> None:
        await self.until(lambda screen: all(text in screen for text in texts), f"{texts}")

    async def until(self, is_it: Callable[[str], bool], what: str, timeout_s: float = 20.0) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                while not is_it(self.text):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{what} did not come; there is:\n{self.text}") from None

    async def exit_code(self) -> int:
        async with asyncio.timeout(20):
            return await self._process.wait()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._master)
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
        os.close(self._master)

    def _read(self) -> None:
        try:
            received = os.read(self._master, 1 << 16)
        except OSError:  # EIO: the program has ended
            received = b""
        if not received:
            asyncio.get_running_loop().remove_reader(self._master)
        self._stream.feed(received)
        self._news.set()


@asynccontextmanager
async def run_on_terminal(
    command: Sequence[str], environ: Mapping[str, str], *, num_columns: int = 120, num_rows: int = 40
) -> AsyncIterator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", num_rows, num_columns, 0, 0))
    dies = dies_with_parent()

    def own_terminal() -> None:
        """A session whose terminal is standard input, so that Ctrl-C is a signal."""
        dies()
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=slave, stdout=slave, stderr=slave, env=environ, preexec_fn=own_terminal
        )
    finally:
        os.close(slave)
    terminal = Terminal(process, master, pyte.Screen(num_columns, num_rows))
    try:
        yield terminal
    finally:
        terminal.close()
        await process.wait()
