"""A page per benchmark beside its raw results: circumstances, then tables."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.report import RESULTS, circumstances


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Aligned, so that it reads well in a terminal, too."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    ruled = [lines[0], ["-" * width for width in widths], *lines[1:]]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in ruled
    )


def save_page(name: str, title: str, paragraphs: Sequence[str]) -> Path:
    """Writes benchmarks/results/<name>.md."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.md"
    facts = "\n".join(f"- {key}: {value}" for key, value in circumstances().items())
    path.write_text("\n\n".join([f"# {title}", *paragraphs, f"Raw results: {name}.json", facts]) + "\n")
    return path
