"""Who may import whom. Reads every module's source, and imports some to see what they load."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]

# Packages of ours that each package may import, besides itself. Tests and the simulator may import everything.
OURS = {
    "shared": set[str](),
    "gateway": {"shared"},
    "router": {"shared"},
    "gpu_worker": {"shared"},
    "cli": {"shared", "benchmarks", "simulator"},  # it starts the services as processes
    "examples": {"shared"},
    "benchmarks": {"shared", "cli", "gateway", "router", "gpu_worker", "simulator"},
}
# Where else's packages may be imported, as path prefixes.
PLACES = {
    "torch": ("gpu_worker/", "benchmarks/"),
    "nats": ("shared/bus.py",),
    "aiohttp": ("gateway/", "cli/", "benchmarks/"),
    "opentelemetry": ("shared/trace_exporter.py",),
    "prometheus_client": ("shared/telemetry.py", "shared/aliases.py"),
    "llguidance": ("shared/grammar.py", "gateway/text/grammar_trial.py", "gpu_worker/guidance/"),
}
# Bookkeeping and decisions run in unit tests and on a virtual clock.
PURE_FOLDERS = {"scheduling", "memory", "policies"}
IMPURE = ("asyncio", "torch", "transformers", "nats", "aiohttp", "threading", "socket", "subprocess", "logging", "time")
WITHOUT_TORCH = ("shared", "gateway", "router", "cli", "simulator")


class Import(NamedTuple):
    path: str  # of the importing file, from the repository's root
    line: int
    module: str

    def is_of(self, package: str) -> bool:
        return self.module == package or self.module.startswith(package + ".")

    def __str__(self) -> str:
        return f"{self.path}:{self.line} imports {self.module}"


def sources() -> list[Path]:
    return sorted(path for package in OURS for path in (ROOT / package).rglob("*.py"))


def is_pure(path: str) -> bool:
    return bool(PURE_FOLDERS & set(Path(path).parts[:-1])) or Path(path).stem == "policy"


def imports_of(path: Path) -> Iterator[Import]:
    """At any depth of the file: a late import is one, too."""
    name = path.relative_to(ROOT).as_posix()
    for node in ast.walk(ast.parse(path.read_text(), name)):
        if isinstance(node, ast.Import):
            yield from (Import(name, node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (Import(name, node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield Import(name, node.lineno, "." * node.level + (node.module or ""))


@pytest.fixture(scope="module")
def imports() -> list[Import]:
    found = [each for path in sources() for each in imports_of(path)]
    assert len(found) > 100
    return found


def test_services_import_shared_and_never_each_other(imports: list[Import]) -> None:
    wrong = [
        str(each)
        for each in imports
        for package, allowed in OURS.items()
        if each.path.startswith(f"{package}/")
        and each.module.partition(".")[0] in {*OURS, "simulator", "tests"} - allowed - {package}
    ]
    assert wrong == []


@pytest.mark.parametrize("package", PLACES)
def test_a_package_stays_in_its_place(imports: list[Import], package: str) -> None:
    assert [str(each) for each in imports if each.is_of(package) and not each.path.startswith(PLACES[package])] == []


def test_decisions_and_bookkeeping_are_pure(imports: list[Import]) -> None:
    assert any(is_pure(each.path) for each in imports)
    assert [str(e) for e in imports if is_pure(e.path) and any(e.is_of(module) for module in IMPURE)] == []


def test_imports_are_absolute(imports: list[Import]) -> None:
    assert [str(each) for each in imports if each.module.startswith(".")] == []


def modules_of(package: str, pure_only: bool = False) -> list[str]:
    names = [path.relative_to(ROOT) for path in sorted((ROOT / package).rglob("*.py"))]
    return [
        ".".join(name.with_suffix("").parts).removesuffix(".__init__")
        for name in names
        if name.stem != "__main__" and (is_pure(name.as_posix()) or not pure_only)
    ]


@pytest.mark.parametrize(
    "modules",
    [*(modules_of(package) for package in WITHOUT_TORCH), modules_of("gpu_worker", pure_only=True)],
    ids=[*WITHOUT_TORCH, "gpu_worker's bookkeeping"],
)
def test_torch_is_not_even_loaded(modules: list[str]) -> None:
    script = f"import sys, {', '.join(modules)}\nsys.exit('torch' in sys.modules and 'torch was loaded')"
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_rules_would_catch_a_breach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "gateway" / "policies").mkdir(parents=True)
    source = "def late():\n    from router.state import View\n    import torch.nn\n    from asyncio import sleep\n"
    (tmp_path / "gateway" / "policies" / "choose.py").write_text(source)
    found = [each for path in sources() for each in imports_of(path)]
    for test in (
        lambda: test_services_import_shared_and_never_each_other(found),
        lambda: test_a_package_stays_in_its_place(found, "torch"),
        lambda: test_decisions_and_bookkeeping_are_pure(found),
    ):
        with pytest.raises(AssertionError):
            test()
