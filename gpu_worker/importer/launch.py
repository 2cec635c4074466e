"""Starts imports as child processes: torch's loaders must not share an interpreter with the token loop."""

from collections.abc import Callable
from pathlib import Path

from shared.catalogue import PLAIN_LAYOUT, ModelEntry, is_imported
from shared.importing import Progress, import_command, run_importer


async def ensure_imported(
    entry: ModelEntry,
    dtype: str,
    cache_dir: Path,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Returns when the model is in the cache. Raises ModelError with the reason. A cancel ends the child."""
    if not is_imported(entry, PLAIN_LAYOUT, dtype):
        command = import_command(entry.name, entry.source, cache_dir, dtype)
        await run_importer(command, on_progress, in_idle_time=True)
