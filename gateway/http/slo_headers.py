"""Service levels as headers, for proxies that know what a client may expect and don't rewrite bodies.

Names and unit are those of the Gateway API Inference Extension (llm-d.ai/docs/api-reference/epp-http-headers). What the
body asks for wins.
"""

import re
from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from gateway.params import invalid
from shared.messages import GenerationParams
from shared.slo import MAX_TBT_S, MAX_TTFT_S, MIN_S

TTFT: Final = "x-slo-ttft-ms"
TBT: Final = "x-slo-tpot-ms"
_NUMBER: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?", re.ASCII)


def fill(params: GenerationParams, headers: Mapping[str, str]) -> GenerationParams:
    """Takes from the headers what the body left open. Raises RequestError naming a header that is malformed."""
    ttft_s = _seconds(headers, TTFT, MAX_TTFT_S)
    tbt_s = _seconds(headers, TBT, MAX_TBT_S)
    return replace(
        params,
        ttft_s=ttft_s if params.ttft_s is None else params.ttft_s,
        tbt_s=tbt_s if params.tbt_s is None else params.tbt_s,
    )


def _seconds(headers: Mapping[str, str], name: str, max_s: float) -> float | None:
    text = headers.get(name)
    if text is None:
        return None
    value_s = float(text) / 1000 if _NUMBER.fullmatch(text.strip()) else 0.0
    if not MIN_S <= value_s <= max_s:
        raise invalid(
            f"The header {name} must be a number of milliseconds from {MIN_S * 1000:g} to {max_s * 1000:.0f}.", name
        )
    return value_s
