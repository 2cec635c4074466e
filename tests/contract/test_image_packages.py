"""Each image has what its services import, in versions that the project allows, and only the worker's has torch."""

import importlib.metadata
import sys
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from deploy.constraints import IMAGES, allowed, closure, group, pinned
from tests.contract.test_imports import OURS, Import, imports_of

ROOT = Path(__file__).parents[2]
PACKAGES = {"router": ("router",), "gateway": ("gateway", "cli"), "worker": ("gpu_worker", "cli")}


def file_of(module: str) -> Path | None:
    """Of a module, or of the one that has the name."""
    for name in (module, module.rpartition(".")[0]):
        path = ROOT / name.replace(".", "/")
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if name and file.exists():
                return file
    return None


def imports_from(packages: tuple[str, ...]) -> list[Import]:
    """Of these packages, and of what they import of `shared`."""
    files = [file for package in packages for file in sorted((ROOT / package).rglob("*.py"))]
    found: list[Import] = []
    for file in files:  # grows while it is walked
        imports = list(imports_of(file))
        found += imports
        shared = (file_of(each.module) for each in imports if each.is_of("shared"))
        files += {each for each in shared if each is not None and each not in files}
    return found


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_has_what_its_services_import(image: str) -> None:
    distributions = importlib.metadata.packages_distributions()
    imported = {each.module.partition(".")[0] for each in imports_from(PACKAGES[image])}
    foreign = imported - set(sys.stdlib_module_names) - set(OURS) - {"simulator"}
    needed = {canonicalize_name(name) for module in foreign for name in distributions.get(module, [module])[:1]}
    assert "msgspec" in needed
    assert needed - closure(image) == set()


def test_only_the_worker_has_torch() -> None:
    assert [image for image in IMAGES if "torch" in closure(image)] == ["worker"]


def test_all_is_pinned_to_what_the_project_allows() -> None:
    versions, requirements = pinned(), allowed()
    assert set(versions) == set[str]().union(*map(closure, IMAGES)), "python -m deploy.constraints"
    for name in set[str]().union(*map(group, IMAGES)):
        assert requirements[name].specifier.contains(versions[name])
