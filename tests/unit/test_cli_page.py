"""docs/cli.md says what the commands take, and every shape of JSON that they print."""

from docs.cli_page import PAGE, page


def test_the_page_is_made_of_the_commands() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m docs.cli_page"
