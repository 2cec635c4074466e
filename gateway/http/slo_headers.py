"""Service levels and time limits as headers, for proxies that know what a client may expect and don't rewrite bodies.

Names and unit of levels are those of the Gateway API Inference Extension
(llm-d.ai/docs/api-reference/epp-http-headers); a time limit is in seconds. What the body asks for wins.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from msgspec.structs import replace

from gateway.request.params import invalid
from shared.messages import GenerationParams
from shared.slo import MAX_TBT_S, MAX_TIMEOUT_S, MAX_TTFT_S, MIN_S

TTFT: Final = "x-slo-ttft-ms"
TBT: Final = "x-slo-tpot-ms"
TIMEOUT: Final = "x-request-timeout"
_NUMBER: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?", re.ASCII)


class _Unit(NamedTuple):
    name: str
    per_second: int


_S: Final = _Unit("seconds", 1)
_MS: Final = _Unit("milliseconds", 1000)


def fill(params: GenerationParams, headers: Mapping[str, str]) -> GenerationParams:
    """Takes from the headers what the body left open. Raises RequestError naming a header that is malformed."""
    ttft_s = _seconds(headers, TTFT, MAX_TTFT_S, _MS)
    tbt_s = _seconds(headers, TBT, MAX_TBT_S, _MS)
    timeout_s = _seconds(headers, TIMEOUT, MAX_TIMEOUT_S, _S)
    return replace(
        params,
        ttft_s=ttft_s if params.ttft_s is None else params.ttft_s,
        tbt_s=tbt_s if params.tbt_s is None else params.tbt_s,
        timeout_s=timeout_s if params.timeout_s is None else params.timeout_s,
    )


def _seconds(headers: Mapping[str, str], name: str, max_s: float, unit: _Unit) -> float | None:
    text = headers.get(name)
    if text is None:
        return None
    value_s = float(text) / unit.per_second if _NUMBER.fullmatch(text.strip()) else 0.0
    if not MIN_S <= value_s <= max_s:
        least, most = MIN_S * unit.per_second, max_s * unit.per_second
        raise invalid(f"The header {name} must be a number of {unit.name} from {least:g} to {most:.0f}.", name)
    return value_s
