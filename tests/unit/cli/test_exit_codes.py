import pytest

from cli.exit_codes import MEANINGS, Answered, ExitCode, Unreachable, exit_code
from shared.errors import BusUnavailable, ConfigError, KottosError, ModelError, NoResponders


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), ExitCode.USAGE),
        (Unreachable("x"), ExitCode.UNREACHABLE),
        (BusUnavailable("x"), ExitCode.UNREACHABLE),
        (NoResponders("x"), ExitCode.UNREACHABLE),
        (Answered(401, "invalid_api_key", "x"), ExitCode.REFUSED),
        (Answered(403, "permission_denied", "x"), ExitCode.REFUSED),
        (Answered(429, "overloaded", "x"), ExitCode.REFUSED),
        (Answered(404, "model_not_found", "x"), ExitCode.FAILED),
        (Answered(503, "unavailable", "x"), ExitCode.FAILED),
        (ModelError("x"), ExitCode.FAILED),
        (KottosError("x"), ExitCode.FAILED),
    ],
)
def test_each_error_has_its_code(error: KottosError, code: ExitCode) -> None:
    assert exit_code(error) is code


def test_every_code_is_explained() -> None:
    assert set(MEANINGS) == set(ExitCode)
