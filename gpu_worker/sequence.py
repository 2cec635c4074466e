"""A request on this worker, from assignment to its end. Owned by the engine loop."""

from collections import Counter
from typing import Final

from gpu_worker.execution.logprobs import ScoredTokens
from gpu_worker.execution.sampling import SamplingRow
from gpu_worker.guidance.guide import SequenceGuide
from gpu_worker.memory.prefix_index import BlockKey, root_key
from gpu_worker.sequence_trace import SequenceTrace
from shared.ids import OwnerId, RequestId
from shared.messages import Ended, Submit, TokenLogprobs

_NOTHING: Final[Counter[int]] = Counter()  # never written
_NOT_KEPT: Final = TokenLogprobs(-1, 0.0)  # nobody asks for it


class Sequence:
    """Invariants: 0 <= num_computed_tokens < num_tokens until it ends. Blocks, of the device or of the host, cover the
    computed tokens, except while they are under copy: then it has none, and it is not ready."""

    __slots__ = (
        "_output_counts",
        "_prompt_ids",
        "_scores_prompt",
        "arrived_at_s",
        "assigned_at_s",
        "attempt",
        "block_ids",
        "block_keys",
        "due_at_s",
        "first_due_at_s",
        "first_step_at_s",
        "first_token_at_s",
        "guide",
        "host_block_ids",
        "is_ready",
        "logprobs",
        "num_cached_tokens",
        "num_computed_tokens",
        "num_preemptions",
        "num_prompt_tokens",
        "num_published_blocks",
        "num_swaps",
        "num_tokens",
        "owner",
        "place_s",
        "priority",
        "prompt_logprobs",
        "request_id",
        "root_key",
        "sampling",
        "tbt_s",
        "tenant",
        "token_ids",
        "trace",
    )

    def __init__(self, submit: Submit, now_s: float, content_id: str = "") -> None:
        """content_id: what KV depends on besides tokens and salt; without one the model's name stands for it."""
        self.request_id: RequestId = submit.request_id
        self.attempt = submit.attempt
        self.owner: OwnerId = submit.owner
        self.priority = submit.priority
        self.tenant = submit.tenant
        self.sampling = submit.sampling
        self.token_ids = [*submit.prompt, *submit.output]
        self.num_tokens = len(self.token_ids)  # kept, as due_at_s is: policies look at it for everybody in each step
        self.num_prompt_tokens = len(submit.prompt)
        self.num_computed_tokens = 0
        self.block_ids: list[int] = []  # of the device
        self.host_block_ids: list[int] = []
        self.root_key = root_key(content_id or submit.model, submit.cache_salt)
        self.block_keys: list[BlockKey] = []  # of its full blocks, as far as somebody asked
        self.num_published_blocks = 0  # of block_ids, the first ones: others may use them
        self.num_cached_tokens = 0  # of the prompt: their KV was there when it came
        self.is_ready = True  # a step could compute it: it waits for no copy
        self.guide: SequenceGuide | None = None  # where its output has to match a grammar, from when it is in a line
        self.trace: SequenceTrace | None = None  # where its request is traced
        self.assigned_at_s = now_s
        self.arrived_at_s = now_s - submit.age_s  # the request, at its owner
        self.first_due_at_s = self.arrived_at_s + submit.slo.ttft_s
        self.place_s = self.first_due_at_s
        self.tbt_s = submit.slo.tbt_s
        self.due_at_s = self._next_due_at_s()
        self.first_step_at_s: float | None = None
        self.first_token_at_s: float | None = None
        self.num_preemptions = 0
        self.num_swaps = 0  # preemptions that kept the KV
        # Kept only where a penalty looks at them.
        repeats = self.sampling.repetition_penalty != 1.0
        counts = repeats or self.sampling.presence_penalty != 0 or self.sampling.frequency_penalty != 0
        self._prompt_ids = frozenset(submit.prompt) if repeats else frozenset()
        self._output_counts: Counter[int] | None = Counter(submit.output) if counts else None
        # One per output token, if they are asked for. An owner that has tokens of an earlier attempt has theirs, too,
        # and all of the prompt's, of which the first token has none.
        asks = self.sampling.num_logprobs is not None
        self.logprobs: list[TokenLogprobs] = [_NOT_KEPT] * len(submit.output) if asks else []
        self.prompt_logprobs: list[TokenLogprobs] = []
        self._scores_prompt = self.sampling.num_prompt_logprobs is not None and not submit.output

    @property
    def num_output_tokens(self) -> int:
        return self.num_tokens - self.num_prompt_tokens

    @property
    def max_output_tokens(self) -> int:
        return self.sampling.max_tokens

    @property
    def output(self) -> list[int]:
        return self.token_ids[self.num_prompt_tokens :]

    @property
    def needs_prompt_logits(self) -> bool:
        """Tokens of its prompt are still to be scored."""
        return self._scores_prompt and len(self.prompt_logprobs) < self.num_prompt_tokens - 1

    @property
    def max_reused_tokens(self) -> int:
        """KV that others computed is of use for so many tokens: the logits of what follows are needed."""
        return len(self.prompt_logprobs) if self.needs_prompt_logits else self.num_tokens - 1

    def scored_tokens(self, start: int, end: int) -> ScoredTokens | None:
        """What a step that computes its tokens [start, end) is to score. Invariant: start <= len(prompt_logprobs)."""
        first, last = len(self.prompt_logprobs), min(end, self.num_prompt_tokens - 1)
        if not self._scores_prompt or first >= last:
            return None
        num_top = self.sampling.num_prompt_logprobs or 0
        return ScoredTokens(first - start, self.token_ids[first + 1 : last + 1], num_top)

    def is_stop(self, token_id: int) -> bool:
        """Whether it ends with this token, if that comes next."""
        return token_id in self.sampling.stop_token_ids and self.num_output_tokens >= self.sampling.min_tokens

    def append(self, token_id: int, logprobs: TokenLogprobs | None = None) -> None:
        self.token_ids.append(token_id)
        if logprobs is not None:
            self.logprobs.append(logprobs)
        self.num_tokens += 1
        self.due_at_s = self._next_due_at_s()
        if self._output_counts is not None:
            self._output_counts[token_id] += 1

    def _next_due_at_s(self) -> float:
        return self.first_due_at_s + self.num_output_tokens * self.tbt_s

    def sampling_row(self) -> SamplingRow:
        return SamplingRow(self.sampling, self.num_output_tokens, self._prompt_ids, self._output_counts or _NOTHING)

    def ended(self, reason: str, now_s: float, **error: object) -> Ended:
        """The end's record, with the timings so far."""
        first_step = self.first_step_at_s if self.first_step_at_s is not None else now_s
        first_token = self.first_token_at_s if self.first_token_at_s is not None else now_s
        return Ended(
            reason=reason,  # type: ignore[arg-type]
            queue_s=first_step - self.assigned_at_s,
            prefill_s=first_token - first_step,
            decode_s=now_s - first_token,
            num_cached_tokens=self.num_cached_tokens,
            num_preemptions=self.num_preemptions,
            num_swaps=self.num_swaps,
            **error,  # type: ignore[arg-type]
        )
