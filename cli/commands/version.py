"""`kottos version`, and `kottos --version`."""

import typer

from cli.commands.options import AsJson


def version(as_json: AsJson = False) -> None:
    """The versions of what runs here, and the devices."""
    import msgspec

    from cli.output import print_json
    from cli.version import versions

    found = versions()
    if as_json:
        print_json(found)
        return
    shown = msgspec.structs.asdict(found) | {"devices": "; ".join(found.devices)}
    for name, value in shown.items():
        print(f"{name.replace('_', '-'):<13} {value or 'not installed'}")


def print_version(is_asked: bool) -> None:
    if is_asked:
        from cli.version import kottos_version

        print(f"kottos {kottos_version()}")
        raise typer.Exit
