"""Step costs as JSON: of one model on one machine, kept beside the model's weights, and read by simulations, too."""

import contextlib
import hashlib
import logging
import os
from math import isfinite
from pathlib import Path
from typing import Final

import msgspec

from gpu_worker.scheduling.costs import StepCosts
from shared.ids import new_id

log = logging.getLogger(__name__)

_MAX_FILES: Final = 8  # of different machines, in one folder


class _KeptCosts(msgspec.Struct, frozen=True):
    costs: StepCosts
    blob: str = ""  # SHA-256 of the weights


def load_costs(file: Path, blob: str | None = None) -> StepCosts | None:
    """None where there is no such file, where it is damaged, or where it is about another blob."""
    try:
        kept = msgspec.json.decode(file.read_bytes(), type=_KeptCosts)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        log.warning("costs in %s are of no use: %s", file, error)
        return None
    costs = kept.costs
    values = (costs.base_s, costs.prefill_s, costs.pair_s, costs.decode_s, costs.context_s)
    if not all(isfinite(value) and value >= 0 for value in values) or costs.base_s == 0:
        log.warning("costs in %s are of no use: %s", file, costs)
        return None
    return costs if blob is None or blob == kept.blob else None


def save_costs(file: Path, costs: StepCosts, blob: str = "") -> None:
    """Whole or not at all. Raises OSError."""
    temporary = file.with_name(f".{file.name}-{new_id('part')}")
    try:
        temporary.write_bytes(msgspec.json.encode(_KeptCosts(costs, blob)) + b"\n")
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


class CostCache:
    """Costs that workers of one kind measured, in the models' folders of the cache."""

    def __init__(self, machine: str) -> None:
        """machine: all that steps' times depend on and models don't, as text."""
        self._machine = hashlib.sha256(machine.encode()).hexdigest()[:16]

    def load(self, folder: Path, blob: str) -> StepCosts | None:
        return load_costs(self._file(folder), blob)

    def save(self, folder: Path, blob: str, costs: StepCosts) -> None:
        """A cache that can't be written to costs measuring again, nothing else."""
        try:
            save_costs(self._file(folder), costs, blob)
            files = sorted(folder.glob("costs-*.json"), key=lambda file: file.stat().st_mtime)
            for oldest in files[:-_MAX_FILES]:
                with contextlib.suppress(FileNotFoundError):
                    oldest.unlink()
        except OSError as error:
            log.info("costs are not kept in %s: %s", folder, error)

    def _file(self, folder: Path) -> Path:
        return folder / f"costs-{self._machine}.json"
