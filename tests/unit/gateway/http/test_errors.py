import pytest

from gateway.http.errors import TABLE, response_of
from shared.errors import ErrorCode, RequestError


def test_every_code_has_its_place_in_the_table() -> None:
    assert set(TABLE) == set(ErrorCode)


@pytest.mark.parametrize("code", [code for code in ErrorCode if TABLE[code].status in (429, 503)])
def test_who_shall_come_again_is_told_when(code: ErrorCode) -> None:
    assert response_of(RequestError(code, "later")).headers["Retry-After"] == "1"
    assert response_of(RequestError(code, "later", retry_after_s=2.5)).headers["Retry-After"] == "3"
