"""Secrets that come as files, as container runtimes mount them: KOTTOS_BUS_PASSWORD_FILE names one that holds the
value of KOTTOS_BUS_PASSWORD.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from shared.errors import ConfigError

SUFFIX: Final = "_FILE"


def with_secret_files(environ: Mapping[str, str], variables: Iterable[str]) -> dict[str, str]:
    """The environment with those of `variables` that come as files read, and no variable that names a file left.

    An empty variable counts as not set. Raises ConfigError, which repeats no secret.
    """
    read = dict(environ)
    for variable in variables:
        path = read.pop(variable + SUFFIX, "")
        if not path:
            continue
        if read.get(variable):
            raise ConfigError(f"{variable}{SUFFIX}: {variable} is given, too")
        read[variable] = _read(variable + SUFFIX, Path(path))
    return read


def _read(origin: str, path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"{origin}: {path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{origin}: {path} is no text") from None
    if not text:
        raise ConfigError(f"{origin}: {path} is empty")
    return text
