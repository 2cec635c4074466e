"""One sequence's tokens as text, up to a stop string."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tokenizers import Tokenizer

from gateway.detokenize import Detokenizer
from gateway.owner import Owner
from gateway.sequence import Sequence
from gateway.stop import StopStrings
from shared.errors import RequestError
from shared.messages import RequestFinished

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Delta:
    """What a choice grew by."""

    index: int
    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason | None


class Choice:
    """Reads a sequence; `close` says that nobody reads it any more."""

    def __init__(
        self,
        index: int,
        sequence: Sequence,
        tokenizer: Tokenizer,
        context: tuple[int, ...],
        stops: tuple[str, ...],
        owner: Owner,
        clock: Callable[[], float],
    ) -> None:
        self.index = index
        self.finish_reason: FinishReason | None = None
        self.num_output_tokens = 0  # read so far
        self._sequence = sequence
        self._detokenizer = Detokenizer(tokenizer, context)
        self._stops = StopStrings(stops)
        self._owner = owner
        self._clock = clock

    @property
    def prompt(self) -> tuple[int, ...]:
        return self._sequence.first_submit.prompt

    @property
    def num_cached_tokens(self) -> int:
        """Of the prompt, as its worker said with the first tokens."""
        return self._sequence.num_cached_tokens

    def take(self) -> Delta | None:
        """What is new since the last call. Raises RequestError when the sequence failed."""
        if self.finish_reason:
            return None
        # The output first: what ends the sequence comes after its tokens.
        token_ids, text = self._read()
        ended = self._sequence.ended
        if not self.finish_reason and ended is not None:
            if isinstance(ended, RequestError):
                if not token_ids:
                    raise ended
            else:
                text += self._finish("stop" if ended.reason == "stop" else "length")
        if not token_ids and not self.finish_reason:
            return None
        return Delta(self.index, text, token_ids, self.finish_reason)

    def _read(self) -> tuple[tuple[int, ...], str]:
        """New tokens and the text that they complete, up to a stop string."""
        sampling = self._sequence.first_submit.sampling
        pieces: list[str] = []
        first = self.num_output_tokens
        for token_id in self._sequence.output[first:]:
            self.num_output_tokens += 1
            if self.num_output_tokens > sampling.min_tokens and token_id in sampling.stop_token_ids:
                continue  # it ends the sequence and is no text
            text = self._detokenizer.feed(token_id)
            if self.num_output_tokens <= sampling.min_tokens:
                pieces.append(text)
                continue
            text, stopped = self._stops.feed(text)
            pieces.append(text)
            if stopped:
                self.finish_reason = "stop"
                self._owner.cancel(self._sequence.first_submit.request_id)
                break
        return tuple(self._sequence.output[first : self.num_output_tokens]), "".join(pieces)

    def _finish(self, reason: FinishReason) -> str:
        """The text that was held back."""
        text, stopped = self._stops.feed(self._detokenizer.flush())
        self.finish_reason = "stop" if stopped else reason
        return text if stopped else text + self._stops.flush()

    def close(self) -> None:
        """Cancels what still runs, and tells whoever subscribes how it ended."""
        submit = self._sequence.first_submit
        self._owner.cancel(submit.request_id)
        first_token_at_s = self._sequence.first_token_at_s
        arrived_at_s = self._sequence.arrived_at_s
        place = self._sequence.place
        failed = isinstance(self._sequence.ended, RequestError)
        self._owner.announce(
            RequestFinished(
                request_id=submit.request_id,
                model=submit.model,
                finish_reason=self.finish_reason or ("error" if failed else "cancelled"),
                num_prompt_tokens=len(submit.prompt),
                num_output_tokens=self.num_output_tokens,
                ttft_s=None if first_token_at_s is None else first_token_at_s - arrived_at_s,
                total_s=self._clock() - arrived_at_s,
                gateway=submit.owner,
                worker=place.worker if place else None,
            )
        )
