"""How each request ended, one line each: the sequences that ran, and the calls that were refused before that."""

import logging

from gateway.request.call import Call
from shared import log
from shared.errors import RequestError
from shared.messages import RequestFinished

_log = logging.getLogger("gateway.access")


class AccessLog:
    def __init__(self, *, is_on: bool) -> None:
        self._is_on = is_on

    def finished(self, finished: RequestFinished) -> None:
        if self._is_on:
            ttft = {} if finished.ttft_s is None else {"ttft_s": finished.ttft_s}
            said = log.fields(
                sequence=finished.request_id,
                model=finished.model,
                tenant=finished.tenant,
                status=finished.finish_reason,
                num_prompt_tokens=finished.num_prompt_tokens,
                num_cached_tokens=finished.num_cached_tokens,
                num_output_tokens=finished.num_output_tokens,
                **ttft,
                total_s=finished.total_s,
                worker=finished.worker or "",
            )
            _log.info("ended", extra=said)

    def refused(self, call: Call, error: RequestError, now_s: float) -> None:
        """Its model is a client's word."""
        if self._is_on:
            said = log.fields(
                call=call.call_id,
                model=call.model[:100],
                tenant=call.tenant.id,
                status=error.code.value,
                total_s=now_s - call.arrived_at_s,
            )
            _log.info("refused", extra=said)
