"""What a person types: something to say, or a command."""

from typing import Final, Literal, NamedTuple, get_args

CommandName = Literal["model", "clear", "system", "stats", "help", "quit"]
COMMANDS: Final[tuple[CommandName, ...]] = get_args(CommandName)

HELP: Final = """\
/model [NAME]   go on with another model; without a name: which there are
/clear          forget what was said
/system [TEXT]  what the model is told first, from now on
/stats          show how fast answers come, or no longer
/help           this
/quit           leave, as Ctrl-D does
A line that ends in \\ goes on in the next one. Ctrl-C stops an answer."""


class Say(NamedTuple):
    text: str


class Command(NamedTuple):
    name: CommandName
    argument: str


class Unknown(NamedTuple):
    name: str


def understand(text: str) -> Say | Command | Unknown | None:
    """None: nothing was said."""
    text = text.strip()
    if not text:
        return None
    if not text.startswith("/"):
        return Say(text)
    name, _, argument = text[1:].partition(" ")
    for command in COMMANDS:
        if name == command:
            return Command(command, argument.strip())
    return Unknown(name)
