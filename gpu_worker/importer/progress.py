"""What a command line shows: progress, on stderr for people or as JSON lines on stdout, and the reason of a failure."""

import sys
from collections.abc import Callable
from typing import TextIO

import msgspec

from shared.errors import ModelError
from shared.importing import Phase, Progress

Report = Callable[[Progress], None]


def make_report(label: str, json_lines: TextIO | None) -> Report:
    """At most a hundred lines a phase for programs, ten for people."""
    parts = 100 if json_lines else 10
    last: tuple[Phase, int] | None = None

    def report(progress: Progress) -> None:
        nonlocal last
        mark = (progress.phase, progress.done * parts // max(progress.total, 1))
        if mark == last:
            return
        last = mark
        if json_lines:
            json_lines.write(msgspec.json.encode(progress).decode() + "\n")
            json_lines.flush()
        elif progress.total > 1:
            say(f"{label}: {progress.phase} {100 * mark[1] // parts} %")
        elif progress.done == 0:
            say(f"{label}: {progress.phase}")

    return report


def attempt(label: str, work: Callable[[], None]) -> int:
    """Runs `work` and returns the exit status; the last line on stderr is the reason of a failure."""
    try:
        work()
    except ModelError as error:
        say(f"{label}: {error}")
        return 1
    except OSError as error:  # the disk is full, the cache folder can't be written
        say(f"{label}: {error}")
        return 1
    except KeyboardInterrupt:
        say(f"{label}: interrupted")
        return 130
    return 0


def say(text: str) -> None:
    """One line on stderr."""
    print(" ".join(text.split()), file=sys.stderr, flush=True)
