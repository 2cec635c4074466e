import os
import sys
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.bench import BENCHMARKS, run_benchmark
from cli.main import app


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    commands: list[list[str]] = []

    def record(_: str, command: list[str]) -> Any:
        commands.append(command)

    monkeypatch.setattr(os, "execv", record)
    return commands


@pytest.mark.parametrize("name", BENCHMARKS)
def test_each_is_a_module_of_the_repository(executed: list[list[str]], name: str) -> None:
    run_benchmark(name, ["--help"])
    assert executed == [[sys.executable, "-m", f"benchmarks.{name}", "--help"]]


def test_options_go_to_the_benchmark(executed: list[list[str]]) -> None:
    app(["bench", "switch", "--repeats", "3", "--help"], standalone_mode=False)
    assert executed == [[sys.executable, "-m", "benchmarks.switch", "--repeats", "3", "--help"]]


def test_help_tells_them_all() -> None:
    shown = CliRunner().invoke(app, ["bench", "--help"]).output
    assert [name for name in (*BENCHMARKS, "serve") if name not in shown] == []


def test_an_unknown_one_is_refused() -> None:
    ended = CliRunner().invoke(app, ["bench", "nothing"])
    assert ended.exit_code == 2 and "nothing" in ended.output
