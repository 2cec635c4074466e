"""Progress is bounded in number, and a failure's reason is one line, the last on stderr."""

import io

import pytest

from gpu_worker.importer.progress import attempt, make_report
from shared.errors import ModelError
from shared.importing import Progress


def test_json_lines_are_few_and_reach_the_end() -> None:
    lines = io.StringIO()
    report = make_report("m", lines)
    for done in range(10_001):
        report(Progress("write", done, 10_000))
    written = lines.getvalue().splitlines()
    assert len(written) == 101
    assert written[-1] == '{"phase":"write","done":10000,"total":10000}'


def test_people_read_phases_and_tens_of_percents(capsys: pytest.CaptureFixture[str]) -> None:
    report = make_report("m", None)
    report(Progress("load", 0, 1))
    report(Progress("load", 1, 1))
    for done in range(1001):
        report(Progress("write", done, 1000))
    captured = capsys.readouterr()
    assert captured.err.splitlines() == ["m: load", *(f"m: write {10 * i} %" for i in range(11))]
    assert captured.out == ""


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (ModelError("no\n  good"), 1, "m: no good"),
        (OSError(28, "No space left on device"), 1, "m: [Errno 28] No space left on device"),
        (KeyboardInterrupt(), 130, "m: interrupted"),
    ],
)
def test_failures_become_status_and_reason(
    error: BaseException, status: int, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    assert attempt("m", fail) == status
    assert capsys.readouterr().err.splitlines()[-1] == reason
