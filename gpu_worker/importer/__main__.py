"""python -m gpu_worker.importer --name NAME --source PATH --cache DIR --dtype bfloat16 [--json]

Exit status 0: the model is in the cache; 1: it is not, and the last line on stderr says why.
What is imported already costs no import of torch.
"""

import argparse
import contextlib
import os
import sys
from pathlib import Path

from gpu_worker.importer.progress import Report, attempt, make_report, say
from gpu_worker.importer.staging import exclusive
from shared.catalogue import PLAIN_LAYOUT, ModelEntry, fingerprint, is_imported


def main(argv: list[str]) -> int:
    arguments = _parse(argv)

    def work() -> None:
        folder = arguments.cache.expanduser() / "models" / fingerprint(arguments.source)
        _ensure(ModelEntry(arguments.name, arguments.source, folder), arguments.dtype, as_json=arguments.json)

    return attempt(arguments.name, work)


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m gpu_worker.importer", description="Import a model into the cache.")
    parser.add_argument("--name", required=True, help="as clients will write it")
    parser.add_argument("--source", required=True, help="Hugging Face folder, GGUF file or hub id")
    parser.add_argument("--cache", required=True, type=Path)
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--json", action="store_true", help="progress as JSON lines on stdout")
    return parser.parse_args(argv)


def _ensure(entry: ModelEntry, dtype: str, *, as_json: bool) -> None:
    if is_imported(entry, PLAIN_LAYOUT, dtype):
        return
    with exclusive(entry.folder.parent, lambda: say(f"{entry.name}: waiting for another import")):
        if not is_imported(entry, PLAIN_LAYOUT, dtype):
            _import(entry, dtype, make_report(entry.name, sys.stdout if as_json else None))


def _import(entry: ModelEntry, dtype: str, report: Report) -> None:
    """Torch comes in only here."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the machine's cores belong to the running workers
    os.environ["TQDM_DISABLE"] = "1"
    import transformers

    from gpu_worker.execution.probe import probe
    from gpu_worker.importer.job import run_import

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with contextlib.redirect_stdout(sys.stderr):  # what libraries print is no progress
        run_import(entry, dtype, probe, report)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
