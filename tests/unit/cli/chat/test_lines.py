import pytest

from cli.chat.lines import COMMANDS, HELP, Command, Say, Unknown, understand


@pytest.mark.parametrize(
    ("text", "understood"),
    [
        ("hello", Say("hello")),
        ("  two\nlines ", Say("two\nlines")),
        ("", None),
        ("   ", None),
        ("/clear", Command("clear", "")),
        ("/model  org/name ", Command("model", "org/name")),
        ("/models", Unknown("models")),
        ("/", Unknown("")),
        ("1/2", Say("1/2")),
    ],
)
def test_what_is_typed(text: str, understood: object) -> None:
    assert understand(text) == understood


def test_help_names_every_command() -> None:
    assert [command for command in COMMANDS if f"/{command}" not in HELP] == []
