import pytest

from gateway.http.slo_headers import TBT, TIMEOUT, TTFT, fill
from shared.errors import RequestError
from shared.messages import GenerationParams


def test_headers_fill_what_the_body_left_open() -> None:
    headers = {TTFT: "1500", TBT: " 100.5 "}
    assert fill(GenerationParams(), headers) == GenerationParams(ttft_s=1.5, tbt_s=0.1005)
    assert fill(GenerationParams(ttft_s=9.0), headers) == GenerationParams(ttft_s=9.0, tbt_s=0.1005)
    assert fill(GenerationParams(top_k=3), {}) == GenerationParams(top_k=3)
    assert fill(GenerationParams(), {TIMEOUT: "2.5"}) == GenerationParams(timeout_s=2.5)
    assert fill(GenerationParams(timeout_s=1.0), {TIMEOUT: "2.5"}).timeout_s == 1.0


@pytest.mark.parametrize("name", [TTFT, TBT, TIMEOUT])
@pytest.mark.parametrize(
    "text", ["", "soon", "0", "-1", "nan", "inf", "1e3", "1_000", "0x10", "٣", "1000000000", "1" * 400]
)
def test_a_malformed_one_is_refused_by_name_whatever_the_body_says(name: str, text: str) -> None:
    with pytest.raises(RequestError, match="seconds") as caught:
        fill(GenerationParams(ttft_s=1.0, tbt_s=1.0), {name: text})
    assert caught.value.param == name
