"""How the command ends: one table for all commands."""

from enum import IntEnum
from typing import Final

from shared.errors import BusUnavailable, ConfigError, KottosError, NoResponders, RequestTimeout


class ExitCode(IntEnum):
    FINE = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    INTERRUPTED = 130


MEANINGS: Final = {
    ExitCode.FINE: "it did what was asked",
    ExitCode.FAILED: "it did not; one line on standard error says why",
    ExitCode.USAGE: "the command line or the configuration is at fault",
    ExitCode.UNREACHABLE: "no gateway answers at the address, or nobody on the bus",
    ExitCode.REFUSED: "the API key is missing, unknown, not enough for this, or at its limit; or queues are full",
    ExitCode.INTERRUPTED: "Ctrl-C",
}


class Unreachable(KottosError):
    """No gateway answers at the address."""


class Answered(KottosError):
    """A gateway answered with an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status  # HTTP's; of an error within a stream that of the stream
        self.code = code  # the gateway's word for it, where it has one


_REFUSALS: Final = frozenset({401, 403, 429})


def exit_code(error: KottosError) -> ExitCode:
    match error:
        case ConfigError():
            return ExitCode.USAGE
        case Unreachable() | BusUnavailable() | NoResponders() | RequestTimeout():
            return ExitCode.UNREACHABLE
        case Answered() if error.status in _REFUSALS:
            return ExitCode.REFUSED
    return ExitCode.FAILED
