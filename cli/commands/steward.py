"""`kottos steward`"""

import typer


def steward() -> None:
    """Import models and say what is served, for services that run on their own; with settings as theirs."""
    from cli.steward_service import main  # its imports are not needed to show help

    raise typer.Exit(main())
