"""A choice of a sequence that nobody runs, read on a clock that stands until it is set."""

from typing import Any, cast

from gateway.attainment import DeadlineMeter, TokenCounts
from gateway.output.answer import Reading
from gateway.output.choice import Choice
from gateway.sequences.sequence import Sequence
from shared.ids import RequestId
from shared.messages import RequestFinished
from shared.slo import Slo
from tests.unit.gateway.builders import submit
from tests.unit.gateway.tiny_models import EOS_ID, byte_level, vocabulary

_EASY = Slo()
VOCABULARY = vocabulary(byte_level())


class Office:
    """In the owner's place."""

    def __init__(self) -> None:
        self.cancelled: list[RequestId] = []
        self.finished: list[RequestFinished] = []

    def cancel(self, request_id: RequestId) -> None:
        self.cancelled.append(request_id)

    def announce(self, finished: RequestFinished) -> None:
        self.finished.append(finished)


class ChoiceReading:
    """Of a request that arrived at 0."""

    def __init__(
        self,
        stops: tuple[str, ...] = (),
        *,
        max_tokens: int = 1000,
        slo: Slo = _EASY,
        reading: Reading | None = None,
        keeps_stop: bool = False,
        scores_only: bool = False,
    ) -> None:
        self.now_s = 0.0
        self.office = Office()
        self.of_model = TokenCounts()
        self.sequence = Sequence(submit(max_tokens=max_tokens, stop_token_ids=(EOS_ID,)), 0.0, lambda: None, 0.0)
        self.choice = Choice(
            0,
            self.sequence,
            VOCABULARY,
            (),
            stops,
            cast(Any, self.office),
            DeadlineMeter(slo, 0.0, self.of_model),
            lambda: self.now_s,
            reading=reading,
            keeps_stop=keeps_stop,
            scores_only=scores_only,
        )


def ids(text: str) -> list[int]:
    return byte_level().encode(text, add_special_tokens=False).ids
