"""How much the objects of our own classes hold, by class and attribute: a table that only grows shows here."""

import gc
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Final

TABLE_PREFIX: Final = "held by "  # of what `held` finds, where it stands beside other sizes
_OURS: Final = ("gpu_worker", "router", "shared")
_CONTAINERS: Final = (dict, list, set, frozenset, deque)


def held(objects: Iterable[object]) -> Counter[str]:
    """Class.attribute -> elements of that container, over all instances of the class."""
    counts: Counter[str] = Counter()
    for each in objects:
        kind = type(each)
        module = kind.__module__  # of some classes of C it is no text
        if isinstance(module, str) and module.partition(".")[0] in _OURS:
            for name, value in _attributes(each):
                if isinstance(value, _CONTAINERS):
                    counts[f"{kind.__name__}.{name}"] += len(value)
    return counts


def num_objects() -> int:
    """Alive and known to the garbage collector."""
    gc.collect()
    return len(gc.get_objects())


def num_blocks() -> int:
    """Allocated by Python, of whatever kind."""
    return sys.getallocatedblocks()


def _attributes(instance: object) -> Iterator[tuple[str, object]]:
    yield from getattr(instance, "__dict__", {}).items()
    for kind in type(instance).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(instance, name):
                yield name, getattr(instance, name)
