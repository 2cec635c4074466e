import pytest

from cli.output import print_table, printable


def test_nothing_steers_the_terminal() -> None:
    assert printable("a\x1b[2Jb\x07\x9bc\rd\u202ee") == "a[2Jbcde"
    assert printable("naïve\tcafé\n日本 👩\u200d👧") == "naïve\tcafé\n日本 👩\u200d👧"


def test_a_row_of_a_table_is_a_line_where_it_is_piped(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("name", "from", rows=[("[red]a\x1b[2J", "x" * 150), ("b", "y")])
    head, first, second = (line.split() for line in capsys.readouterr().out.splitlines())
    assert (head, first, second) == (["name", "from"], ["[red]a[2J", "x" * 150], ["b", "y"])
