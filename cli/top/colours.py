"""A colour and a letter for each model, the same ones for as long as the models are the same."""

import hashlib
from collections.abc import Iterable
from string import ascii_lowercase
from typing import Final, NamedTuple

# Okabe and Ito's, which colour-blind people can tell apart, lightened or darkened for a second round.
PALETTE: Final = (
    "#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#0072b2", "#d55e00",
    "#9fd5f3", "#ffd37f", "#66d9b8", "#e6b8d3", "#8a8320", "#66a9d6", "#f2a673",
)  # fmt: skip


class Mark(NamedTuple):
    colour: str
    letter: str  # where there are no colours


def marks(models: Iterable[str]) -> dict[str, Mark]:
    """By its name a model takes its place; where that is taken, the next one that is free."""
    names = sorted(set(models))
    taken: dict[int, str] = {}
    for name in names:
        place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % len(PALETTE)
        while place % len(PALETTE) in taken and len(taken) < len(PALETTE):
            place += 1
        taken.setdefault(place % len(PALETTE) if len(taken) < len(PALETTE) else len(taken), name)
    places = {name: place for place, name in taken.items()}
    return {
        name: Mark(PALETTE[places[name] % len(PALETTE)], ascii_lowercase[index % len(ascii_lowercase)])
        for index, name in enumerate(names)
    }


def stacked(parts: dict[str, int], total: int, num_cells: int) -> list[str | None]:
    """A bar of that many cells: whose bytes each one stands for; None: free. What is there has a cell at least, while
    there are enough."""
    cells: list[str | None] = []
    whole = max(total, sum(parts.values()), 1)
    for name, num_bytes in sorted(parts.items()):
        if num_bytes > 0:
            cells += [name] * max(1, round(num_cells * num_bytes / whole))
    return (cells + [None] * num_cells)[:num_cells]
