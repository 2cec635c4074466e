"""Sizes as people write them: 760MiB, 2GiB, 1.5GB, or a plain number of bytes."""

import re
from typing import Final

_FACTORS: Final = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "tib": 1 << 40,
}
_SIZE: Final = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?)\s*([a-zA-Z]{0,3})")
MAX_BYTES: Final = (1 << 63) - 1


def parse_size(text: str) -> int:
    """Bytes. Raises ValueError with what is accepted."""
    match = _SIZE.fullmatch(text.strip())
    factor = _FACTORS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError("expected a size like 760MiB, 2GiB or 500MB, or a number of bytes")
    num_bytes = int(match[1]) * factor if "." not in match[1] else round(float(match[1]) * factor)
    if num_bytes > MAX_BYTES:
        raise ValueError(f"expected a size of at most {MAX_BYTES} bytes")
    return num_bytes


def format_size(num_bytes: int) -> str:
    """For people: the largest binary unit that keeps the number at 1 or more."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        factor = _FACTORS[unit.lower()]
        if num_bytes >= factor:
            return f"{num_bytes / factor:.2f}".rstrip("0").rstrip(".") + f" {unit}"
    return f"{num_bytes} bytes"
