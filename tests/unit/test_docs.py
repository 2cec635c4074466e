"""The pages say nothing that is not there: links, files, names, settings, commands, errors."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from cli.main import app
from gateway.http.errors import TABLE
from shared.config import API_KEY_VARIABLE, CONFIG_VARIABLE, KEYS, SECRET_VARIABLES, URL_VARIABLE, variable
from shared.secret_files import SUFFIX

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "deploy" / "README.md"])
FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir()}
OTHER_VARIABLES = {CONFIG_VARIABLE, URL_VARIABLE, API_KEY_VARIABLE, "KOTTOS_SECTION_KEY"}

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
REFERENCE = re.compile(r"[\w.-]+/[\w./-]*(?:::[\w.]+)?")  # gateway/text/, gateway/sequences/owner.py::Owner.open


def code_of(text: str) -> list[str]:
    """What stands in backticks, blocks as one piece each."""
    return CODE.findall(FENCE.sub("", text)) + FENCE.findall(text)


def references(text: str) -> list[str]:
    return [code for code in code_of(text) if REFERENCE.fullmatch(code) and code.partition("/")[0] in FOLDERS]


@cache
def definitions(module: Path) -> set[str]:
    """A, A.b"""
    found = set()
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = (each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
            found |= {f"{node.name}.{method.name}" for method in methods}
    return found


def is_there(reference: str) -> bool:
    path, _, name = reference.partition("::")
    return (ROOT / path).exists() and (not name or name in definitions(ROOT / path))


def anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {"#" + re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.fixture(scope="module")
def all_code() -> str:
    return "\n".join(code for page in PAGES for code in code_of(page.read_text()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    links = [link for link in LINK.findall(text) if "://" not in link]
    inside, outside = [x for x in links if x[0] == "#"], [x for x in links if x[0] != "#"]
    assert [link for link in outside if not (page.parent / link).exists()] == []
    assert set(inside) <= anchors(text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_what_they_define_are_there(page: Path) -> None:
    found = references(page.read_text())
    assert found and [reference for reference in found if not is_there(reference)] == []


def test_a_wrong_name_would_show() -> None:
    right, wrong = (
        "gateway/sequences/owner.py::Owner.open",
        ["gateway/sequences/owner.py::Owner.shut", "router/none.py"],
    )
    found = references(f"`{right}`, `{wrong[0]}`, `{wrong[1]}`, `POST /v1/models`, `input/output`")
    assert [reference for reference in found if not is_there(reference)] == wrong


def test_settings_are_there(all_code: str) -> None:
    keys = {name for key in KEYS for name in (key, key.removesuffix("_bytes"))}
    sections = "|".join({key.partition(".")[0] for key in KEYS if "." in key})
    named = set(re.findall(rf"^(?:{sections})\.[a-z_]+$", all_code, re.MULTILINE))
    assert named and named <= keys
    variables = set(re.findall(r"KOTTOS_[A-Z_]*[A-Z]", all_code))
    files = {f"{name}{SUFFIX}" for name in SECRET_VARIABLES}
    assert variables and variables <= {*map(variable, keys), *files, *OTHER_VARIABLES}


def leaves(command: Any) -> Iterator[Any]:
    """The commands of a group, its own, and those of groups in it."""
    yield command
    for part in getattr(command, "commands", {}).values():
        yield from leaves(part)


def test_commands_are_there(all_code: str) -> None:
    root: Any = get_command(app)
    names, commands = "|".join(root.commands), list(leaves(root))
    options = [option for command in commands for option in command.params]
    flags = {flag for option in options for flag in (*option.opts, *option.secondary_opts)}
    lines = [line for line in all_code.splitlines() if re.search(rf"^--|kottos (?:{names})\b|ARGS=", line)]
    named = set(re.findall(r"(?<![\w-])--[a-z-]+", "\n".join(lines)))
    assert named and named <= {*flags, "--help"}
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    made = set(re.findall(r"^make ([a-z]+)", all_code, re.MULTILINE))
    assert made and made <= targets


def test_the_readme_tells_every_error() -> None:
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if re.match(r"\| \d{3} \|", line)]
    missing = [
        shown
        for shown in TABLE.values()
        if not any(row.startswith(f"| {shown.status} |") and (shown.code or "null") in row for row in rows)
    ]
    assert missing == []
