"""One import, start to end."""

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch
import transformers

from gpu_worker.importer.blob import blob_bytes, write_blob
from gpu_worker.importer.eligibility import check_servable, context_length
from gpu_worker.importer.progress import Report
from gpu_worker.importer.source import load_config, load_model, load_tokenizer, open_source
from gpu_worker.importer.staging import publish, workspace
from gpu_worker.importer.texts import make_card, write_texts
from shared.catalogue import PLAIN_LAYOUT, Manifest, ModelEntry, read_card
from shared.errors import ModelError
from shared.importing import Progress
from shared.units import format_size

Probe = Callable[[transformers.PreTrainedModel, Path, Path, Manifest], None]


def run_import(entry: ModelEntry, dtype: str, probe: Probe, report: Report) -> None:
    """The caller holds the cache's lock. Raises ModelError with the reason; then nothing of it is left."""
    report(Progress("tokenizer", 0, 1))
    source = open_source(entry.source)
    config = load_config(source)
    check_servable(config)
    context_length(config)
    with workspace(entry.folder.parent, entry.folder.name) as folder:
        write_texts(source, config, load_tokenizer(source), folder)
        report(Progress("tokenizer", 1, 1))

        report(Progress("load", 0, 1))
        model = load_model(source, getattr(torch, dtype))
        card = make_card(model, folder)
        (folder / "card.json").write_bytes(msgspec.json.format(msgspec.json.encode(card)))
        report(Progress("load", 1, 1))

        weights_folder = folder / f"{PLAIN_LAYOUT}-{dtype}"
        weights_folder.mkdir()
        _check_space(weights_folder, blob_bytes(model))
        manifest = write_blob(model, dtype, weights_folder, report)

        report(Progress("probe", 0, 1))
        probe(model, folder, weights_folder, manifest)
        report(Progress("probe", 1, 1))

        if _has_card(entry):  # imported before for another dtype
            publish(weights_folder, entry.weights_folder(PLAIN_LAYOUT, dtype))
        else:
            publish(folder, entry.folder)


def _has_card(entry: ModelEntry) -> bool:
    try:
        return read_card(entry) is not None
    except ModelError:
        return False


def _check_space(folder: Path, needed_bytes: int) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if needed_bytes > free_bytes:
        raise ModelError(
            f"{format_size(needed_bytes)} needed in the cache folder, but only {format_size(free_bytes)} are free"
        )
