"""Pins what the images install to the versions of this environment: python -m deploy.constraints"""

import importlib.metadata
import tomllib
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FILE: Final = Path(__file__).parent / "docker" / "constraints.txt"
IMAGES: Final = ("router", "gateway", "worker")

_PROJECT: Final[dict[str, Any]] = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())


def allowed() -> dict[str, Requirement]:
    """The project's dependencies by name."""
    return {canonicalize_name(r.name): r for r in map(Requirement, _PROJECT["project"]["dependencies"])}


def group(name: str) -> set[str]:
    """The packages that pyproject.toml names for an image."""
    found: set[str] = set()
    for each in _PROJECT["dependency-groups"][name]:
        found |= group(each["include-group"]) if isinstance(each, dict) else {canonicalize_name(each)}
    return found


def closure(image: str) -> set[str]:
    """With all that they need, as this environment's packages say, on this platform."""
    found, left = set[str](), group(image)
    while left:
        name = left.pop()
        found.add(name)
        requirements = map(Requirement, importlib.metadata.requires(name) or ())
        needed = (each.name for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""}))
        left |= set(map(canonicalize_name, needed)) - found
    return found


def pinned() -> dict[str, str]:
    """Version by package, as the file has them."""
    lines = FILE.read_text().splitlines()
    return dict(line.split("==", 1) for line in lines if line and not line.startswith("#"))


def _text() -> str:
    names = sorted(set[str]().union(*map(closure, IMAGES)))
    versions = {name: importlib.metadata.version(name).partition("+")[0] for name in names}
    return "# Made by deploy/constraints.py.\n" + "".join(f"{name}=={version}\n" for name, version in versions.items())


if __name__ == "__main__":
    FILE.write_text(_text())
