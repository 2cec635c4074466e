"""python -m gpu_worker.importer.demo --cache DIR [--json]

Puts the demo models of the extra `demo` into <cache>/demo/<name>, converted once to bf16 safetensors. Finds them
done in a fraction of a second, without torch. Exit status and last stderr line as in `python -m gpu_worker.importer`.
"""

import argparse
import contextlib
import os
import sys
from functools import partial
from pathlib import Path

from gpu_worker.importer.demo_sources import DEMOS, Demo, write_gguf
from gpu_worker.importer.progress import Report, attempt, make_report, say
from gpu_worker.importer.seal import is_intact, seal
from gpu_worker.importer.staging import exclusive, publish, workspace
from shared.catalogue import demo_models


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m gpu_worker.importer.demo", description="Prepare the demo models.")
    parser.add_argument("--cache", required=True, type=Path)
    parser.add_argument("--json", action="store_true", help="progress as JSON lines on stdout")
    arguments = parser.parse_args(argv)
    for model in demo_models(arguments.cache):
        report = make_report(model.name, sys.stdout if arguments.json else None)
        if status := attempt(model.name, partial(prepare, DEMOS[model.name], Path(model.path), report)):
            return status
    return 0


def prepare(demo: Demo, target: Path, report: Report) -> None:
    """Returns when the model lies in `target`. Raises ModelError."""
    if is_intact(target):
        return
    with exclusive(target.parent, lambda: say(f"{demo.name}: waiting for another conversion")):
        if is_intact(target):
            return
        if target.exists():
            say(f"{demo.name}: {target} is damaged, converting again")
        with workspace(target.parent, demo.name) as folder:
            gguf_file = folder / "source.gguf"
            result = folder / "result"
            result.mkdir()
            write_gguf(demo, gguf_file, report)
            _convert(demo, gguf_file, result, report)
            seal(result)
            publish(result, target)


def _convert(demo: Demo, gguf_file: Path, folder: Path, report: Report) -> None:
    """Torch comes in only here."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the machine's cores belong to the running workers
    os.environ["TQDM_DISABLE"] = "1"
    from gpu_worker.importer.gguf_folder import convert_gguf

    with contextlib.redirect_stdout(sys.stderr):  # what libraries print is no progress
        convert_gguf(demo, gguf_file, folder, report)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
