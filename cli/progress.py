"""Shows the preparation of models: bars on a terminal, a line per phase elsewhere."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from shared import importing


class PreparationView:
    """A `Report` for `cli/prepare.py`, to be used as a context."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}  # by model
        self._phases: dict[str, str] = {}  # by model

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._bars.stop()

    def __call__(self, model: str, line: importing.Progress) -> None:
        text = f"preparing {model}: {line.phase}"
        if self._console.is_terminal:
            if model not in self._tasks:
                self._tasks[model] = self._bars.add_task(text, total=None)
            self._bars.update(self._tasks[model], description=text, completed=line.done, total=line.total)
        elif self._phases.get(model) != line.phase:
            self._phases[model] = line.phase
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
