"""The view as what rich prints, for a terminal of a size."""

from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from cli.output import printable
from cli.top.colours import Mark, marks, stacked
from cli.top.feed import Memory, Model, Request, State, Worker
from cli.top.lane import Cell, Lane
from cli.top.view import View
from shared.units import format_size

KEYS: Final = "q quit  p pause  + - zoom  s sort models  r sort requests"
_HEIGHTS: Final = " ▁▂▃▄▅▆▇█"
_TEXT_BESIDE_BARS: Final = 90  # columns, about
_BARS: Final = 3  # of a worker
_MOST_BAR_CELLS: Final = 16
_LEAST_BAR_CELLS: Final = 3
_ROWS_OF_WORKER: Final = 3
_ROWS_AROUND: Final = 5  # header, legend, the tables' heads, keys
_LEAST_MODELS: Final = 4
ALL_ROWS: Final = 1 << 20  # a height, where all is to be printed


def render(view: View, width: int, height: int, now_s: float, *, has_colours: bool, is_paused: bool = False) -> Group:
    """Fills at most `height` lines of `width` columns."""
    state = view.state
    if state is None:
        return Group(Text(view.trouble or "waits for the first news", style="yellow"))
    shown = marks([model.model for model in state.models] + _resident(state))
    num_rows = max(2, height - _ROWS_AROUND)
    num_workers = min(len(state.workers), max(1, num_rows // 2 // _ROWS_OF_WORKER))
    num_rows -= num_workers * _ROWS_OF_WORKER
    num_models = _fitting(len(state.models), max(_LEAST_MODELS, num_rows // 2))
    num_requests = _fitting(state.num_requests, num_rows - min(len(state.models), num_models + 1))
    until_s = view.gateway_now_s(now_s)
    parts: list[RenderableType] = [_header(view, state, is_paused)]
    for worker in state.workers[:num_workers]:
        cells = view.lanes.get(worker.worker, Lane()).cells(until_s, view.span_s, max(10, width - 2))
        parts += [*_worker(worker, cells, shown, has_colours, width)]
    parts.append(_legend(shown, view.span_s, has_colours, len(state.workers) - num_workers))
    parts.append(_models(view.models()[:num_models], len(state.models) - num_models, view.model_order, shown))
    parts.append(_requests(view.requests()[:num_requests], state.num_requests, view.request_order))
    if height != ALL_ROWS:
        parts.append(Text(KEYS, style="dim", no_wrap=True, overflow="crop"))
    return Group(*parts)


def _header(view: View, state: State, is_paused: bool) -> Text:
    tokens_per_s = sum(worker.tokens_per_s for worker in state.workers)
    switches_per_s = sum(worker.switches_per_s for worker in state.workers)
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append("Kottos ", style="bold")
    text.append(
        f"{_num(len(state.workers), 'worker')}  {_num(len(state.models), 'model')}  "
        f"{_num(state.num_requests, 'request')}  "
        f"{tokens_per_s:.1f} tokens/s  {switches_per_s:.1f} switches/s"
    )
    if is_paused:
        text.append("  paused", style="bold yellow")
    if view.num_lost:
        text.append(f"  {view.num_lost} events lost", style="yellow")
    if view.trouble:
        text.append(f"  {printable(view.trouble)}", style="bold red")
    return text


def _fitting(num: int, num_rows: int) -> int:
    """How many of them have room, where a row has to say that there are more."""
    return num if num <= num_rows else max(0, num_rows - 1)


def _worker(
    worker: Worker, cells: Sequence[Cell], shown: dict[str, Mark], has_colours: bool, width: int
) -> Iterable[Text]:
    """_ROWS_OF_WORKER lines."""
    head = Text(no_wrap=True, overflow="ellipsis")
    head.append(printable(worker.worker), style="bold")
    head.append(f"  {worker.tokens_per_s:.1f} tokens/s  {worker.switches_per_s:.1f} switches/s  {worker.policy}")
    if worker.draining:
        head.append("  drained", style="yellow")
    yield head
    num_cells = min(max(_LEAST_BAR_CELLS, (width - _TEXT_BESIDE_BARS) // _BARS), _MOST_BAR_CELLS)
    memory = Text("  ", no_wrap=True, overflow="ellipsis")
    for name, part in (("device", worker.device), ("host", worker.host)):
        memory.append(f"{name} ")
        memory.append(_bar(part, num_cells, shown, has_colours))
        memory.append(f" {_used(sum(part.models.values()), part.total_bytes)}  ")
    memory.append("KV ")
    memory.append(_bar(Memory(worker.kv.total_bytes, {"": worker.kv.used_bytes}), num_cells, shown, has_colours))
    memory.append(f" {_used(worker.kv.used_bytes, worker.kv.total_bytes)}")
    yield memory
    yield _strip(cells, shown, has_colours)


def _strip(cells: Sequence[Cell], shown: dict[str, Mark], has_colours: bool) -> Text:
    """The height of a cell says for how much of its time the device was busy, its colour whose it was most."""
    strip = Text("  ", no_wrap=True, overflow="crop")
    for cell in cells:
        mark = shown.get(cell.model or "")
        if cell.waited:
            strip.append("░" if has_colours else "-", style=mark.colour if mark else "dim")
        elif mark is None:
            strip.append(" ")
        elif has_colours:
            strip.append(_HEIGHTS[max(1, round(cell.share * (len(_HEIGHTS) - 1)))], style=mark.colour)
        else:
            strip.append(mark.letter)
    return strip


def _bar(memory: Memory, num_cells: int, shown: dict[str, Mark], has_colours: bool) -> Text:
    bar = Text()
    for name in stacked(memory.models, memory.total_bytes or 0, num_cells):
        mark = shown.get(name or "")
        if name is None:
            bar.append("·", style="dim")
        elif mark is None or has_colours:
            bar.append("█", style=mark.colour if mark else "white")
        else:
            bar.append(mark.letter)
    return bar


def _legend(shown: dict[str, Mark], span_s: float, has_colours: bool, num_hidden: int) -> Text:
    text = Text(f"  last {span_s:g} s", style="dim", no_wrap=True, overflow="ellipsis")
    if num_hidden > 0:
        text.append(f"  and {_num(num_hidden, 'worker')} more")
    for name, mark in shown.items():
        text.append("  █ " if has_colours else f"  {mark.letter} ", style=mark.colour)
        text.append(printable(name))
    text.append("  ░ waits for weights" if has_colours else "  - waits for weights")
    return text


def _models(models: Sequence[Model], num_hidden: int, order: str, shown: dict[str, Mark]) -> Table:
    table = _table(f"model (by {order})", "state", ("waiting", "running", "TTFT", "on time", "tokens/s", "due"))
    for model in models:
        state = model.state + (" pinned" if model.pinned else "")
        if model.progress is not None:
            state += f" {model.progress:.0%}"
        table.add_row(
            Text(printable(model.model), style=shown[model.model].colour),
            state,
            str(model.waiting),
            str(model.running),
            "" if model.predicted_ttft_s is None else f"{model.predicted_ttft_s:.2f} s",
            "" if model.attainment is None else f"{model.attainment:.1%}",
            f"{model.tokens_per_s:.1f}",
            f"{model.slo.ttft_s:g} + {model.slo.tbt_s:g} s",
        )
    if num_hidden > 0:
        table.add_row(f"and {num_hidden} more", style="dim")
    return table


def _requests(requests: Sequence[Request], num_all: int, order: str) -> Table:
    table = _table(f"request (by {order})", "model", ("phase", "age", "tokens", "worker", "status"))
    for request in requests:
        table.add_row(
            printable(request.id),
            printable(request.model),
            request.phase,
            f"{request.age_s:.1f} s",
            f"{request.num_prompt_tokens}+{request.num_output_tokens}",
            printable(request.worker or ""),
            printable(request.status),
        )
    if num_all > len(requests):
        table.add_row(f"and {num_all - len(requests)} more", style="dim")
    return table


def _table(first: str, second: str, others: tuple[str, ...]) -> Table:
    columns = [Column(first, no_wrap=True), Column(second, no_wrap=True)]
    columns += [Column(name, no_wrap=True) for name in others]
    return Table(*columns, box=None, header_style="bold dim", pad_edge=False)


def _resident(state: State) -> list[str]:
    """Models that are still somewhere, and no longer served."""
    return [name for worker in state.workers for part in (worker.device, worker.host) for name in part.models]


def _num(num: int, name: str) -> str:
    return f"{num} {name}" if num == 1 else f"{num} {name}s"


def _used(num_bytes: int, total_bytes: int | None) -> str:
    return format_size(num_bytes) if total_bytes is None else f"{format_size(num_bytes)} of {format_size(total_bytes)}"
