"""How results are printed: JSON for scripts, tables for people, progress on a terminal."""

import contextlib
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from rich.console import Console

_PIPED_WIDTH: Final = 240  # columns: whoever reads lines wants each row in one
Report = Callable[[str, float | None], None]  # what happens, share done


def print_json(value: object) -> None:
    """A line, at once: somebody may read along."""
    print(msgspec.json.encode(value).decode(), flush=True)


def printable(text: str) -> str:
    """Without what would steer a terminal; lines and tabs stay."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf") or c == "\u200d")


def print_table(*columns: str, rows: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    first, *others = columns
    table = Table(Column(first, no_wrap=True), *others, box=None)
    for row in rows:
        table.add_row(*map(printable, row))
    console = Console() if sys.stdout.isatty() else Console(width=_PIPED_WIDTH)
    console.print(table, markup=False)


def stderr_console() -> "Console":
    from rich.console import Console

    return Console(stderr=True)


@contextlib.contextmanager
def progress(name: str, *, quiet: bool = False) -> Iterator[Report]:
    """A bar on standard error, where that is a terminal."""
    console = stderr_console()
    if quiet or not console.is_terminal:
        yield lambda text, share: None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(name, total=None)

        def report(text: str, share: float | None) -> None:
            total = None if share is None else 1.0
            bars.update(task, description=f"{name} {text}", completed=share or 0.0, total=total)

        yield report
