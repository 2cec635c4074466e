"""A request's way through the gateway, whoever brings it: admit, check, render, tokenize, own, detokenize."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from msgspec.structs import replace

from gateway.admission.in_flight import InFlight, OpenCall
from gateway.admission.waiting import LineName, WaitingCall, WaitingLines
from gateway.attainment import Attainment, DeadlineMeter
from gateway.fleet.models import Model, Models
from gateway.metrics import GatewayMetrics
from gateway.output.choice import Choice, Delta
from gateway.output.detokenize import NUM_CONTEXT_TOKENS
from gateway.output.vocabulary import Vocabulary
from gateway.output.wake import Wake
from gateway.request import params as checks
from gateway.request.expected import ExpectedAnswer, expect
from gateway.request.prompts import Chat, Prompt, Prompts
from gateway.request.structured import Constraint, constraint
from gateway.request.time_limit import TimeLimit
from gateway.sequences.owner import Owner
from gateway.tenants.tenant import NOBODY, Tenant
from gateway.tenants.usage import Claim, Usages
from shared.errors import ErrorCode, RequestError
from shared.ids import ModelName, RequestId
from shared.levels import Levels
from shared.messages import GenerationParams


@dataclass(frozen=True, slots=True)
class Call:
    call_id: str  # unique for ever; the request ids begin with it
    model: ModelName
    prompts: tuple[Prompt, ...]  # params.n choices each
    params: GenerationParams
    arrived_at_s: float
    tenant: Tenant = NOBODY


class Generation:
    """The choices of one call as they grow: those of its first prompt, then those of the second, ..."""

    def __init__(
        self,
        call: Call,
        choices: list[Choice],
        vocabulary: Vocabulary,
        wake: Wake,
        waiting: WaitingCall,
        limit: TimeLimit,
    ) -> None:
        self.choices = choices
        self.vocabulary = vocabulary
        self._call = call
        self._num_per_prompt = len(choices) // len(call.prompts)
        self._wake = wake
        self._waiting = waiting
        self._limit = limit

    def prompt_of(self, choice: int) -> Prompt:
        return self._call.prompts[choice // self._num_per_prompt]

    @property
    def is_done(self) -> bool:
        return all(choice.finish_reason for choice in self.choices)

    @property
    def num_prompt_tokens(self) -> int:
        """Each prompt counts once."""
        return sum(len(choice.prompt) for choice in self.choices[:: self._num_per_prompt])

    @property
    def num_output_tokens(self) -> int:
        return sum(choice.num_output_tokens for choice in self.choices)

    @property
    def num_cached_tokens(self) -> int:
        """Of the prompts, for the first choice of each."""
        return sum(choice.num_cached_tokens for choice in self.choices[:: self._num_per_prompt])

    @property
    def num_reasoning_tokens(self) -> int:
        """Of the output."""
        return sum(choice.num_reasoning_tokens for choice in self.choices)

    async def next(self, timeout_s: float | None = None) -> list[Delta]:
        """What is new, at most one delta per choice; empty after `timeout_s`. Raises RequestError if one failed, or the
        call's own limit has passed."""
        self._limit.check()
        while not (deltas := [delta for choice in self.choices if (delta := choice.take())]):
            if not await self._wake.wait(self._limit.at_most_s(timeout_s)):
                self._limit.check()
                return []
        for delta in deltas:
            self._waiting.started(delta.index)
        return deltas

    def status(self) -> str:
        """Of what is waited for, in words."""
        return str(self._waiting.standing() or "waiting")

    def written(self, deltas: Iterable[Delta]) -> None:
        """They are on their way to the client: now their tokens are on time or late."""
        for delta in deltas:
            self.choices[delta.index].written(delta)


class Pipeline:
    def __init__(
        self,
        owner: Owner,
        models: Models,
        prompts: Prompts,
        levels: Levels,
        attainment: Attainment,
        usages: Usages,
        lines: WaitingLines,
        metrics: GatewayMetrics,
        max_requests: int,
        clock: Callable[[], float],
    ) -> None:
        self._owner = owner
        self._models = models
        self._prompts = prompts
        self._levels = levels
        self._attainment = attainment
        self._usages = usages
        self._lines = lines
        self._metrics = metrics
        self._max_requests = max_requests
        self._clock = clock
        self._num_open = 0  # sequences from admission to the end of their call
        self._open: dict[str, OpenCall] = {}  # by id
        self._is_draining = False
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    @property
    def num_open(self) -> int:
        return self._num_open

    def in_flight(self) -> Iterator[InFlight]:
        """Every sequence, the oldest call's first."""
        now_s = self._clock()
        for call in self._open.values():
            yield from call.in_flight(now_s)

    def readers(self) -> list[Choice]:
        """Of all open calls."""
        return [choice for call in self._open.values() for choice in call.choices]

    @asynccontextmanager
    async def generate(self, call: Call) -> AsyncIterator[Generation]:
        """Leaving the block ends the call: what still runs is cancelled. Raises RequestError."""
        num = checks.num_choices(call.params, len(call.prompts))
        limit = TimeLimit(checks.time_limit_s(call.params), call.arrived_at_s, self._clock)
        self._admit(num)
        choices: list[Choice] = []
        try:
            with self._waiting(call, num, choices) as waiting, self._claimed(call, num, choices) as claim:
                async with limit.kept():
                    generation = await self._begin(call, choices, claim, waiting, limit)
                yield generation
        finally:
            for choice in choices:
                choice.close()
            self._release(num)

    @contextmanager
    def _waiting(self, call: Call, num: int, choices: list[Choice]) -> Iterator[WaitingCall]:
        """It has its place among those that wait for a first token. Raises RequestError."""
        tenant = call.tenant.id
        line = LineName(call.model, tenant)
        waiting = self._lines.enter(line, self._priority(call), num, call.params.timeout_s, self._clock)
        self._open[call.call_id] = OpenCall(call.call_id, call.model, tenant, call.arrived_at_s, num, choices, waiting)
        try:
            yield waiting
        finally:
            del self._open[call.call_id]
            waiting.leave()

    @contextmanager
    def _claimed(self, call: Call, num: int, choices: list[Choice]) -> Iterator[Claim]:
        """The tenant's limits let it in, and count what it came to. Raises RequestError."""
        if not call.tenant.may_use(call.model):
            raise RequestError(
                ErrorCode.PERMISSION_DENIED, f"This API key may not use the model {call.model!r}.", param="model"
            )
        claim = self._usages.of(call.tenant, self._clock()).begin(num, self._clock())
        try:
            yield claim
        finally:
            num_prompt_tokens = sum(len(choice.prompt) for choice in choices[:: call.params.n or 1])
            claim.end(num_prompt_tokens + sum(choice.num_output_tokens for choice in choices), self._clock())

    def _priority(self, call: Call) -> int:
        return call.tenant.urgency(call.params.priority, self._levels[call.model].priority)

    async def drain(self, grace_s: float) -> None:
        """Refuses new calls and waits for the running ones; those that last longer end with an error."""
        self._is_draining = True
        if not await self._becomes_idle(grace_s):
            self._owner.end_all(stopping())
            await self._becomes_idle(grace_s)

    async def _becomes_idle(self, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                await self._is_idle.wait()
        except TimeoutError:
            return False
        return True

    def _admit(self, num: int) -> None:
        if self._is_draining:
            raise stopping()
        if self._num_open + num > self._max_requests:
            raise RequestError(ErrorCode.OVERLOADED, "Too many requests are in flight.", retry_after_s=1.0)
        self._num_open += num
        self._is_idle.clear()

    def _release(self, num: int) -> None:
        self._num_open -= num
        if self._num_open == 0:
            self._is_idle.set()

    async def _begin(
        self, call: Call, choices: list[Choice], claim: Claim, waiting: WaitingCall, limit: TimeLimit
    ) -> Generation:
        model = self._models.get(call.model)
        checks.check(call.params)
        checks.check_tokens(call.params, model.card.vocab_size)
        asked = constraint(call.params)
        context_length = self._models.context_length(model)
        prompts = [await self._prompts.token_ids(model, prompt, context_length) for prompt in call.prompts]
        answer = _expected(model, call.prompts[0], prompts[0], asked)  # a chat is the only prompt of its call
        grammar = await self._prompts.grammar(model, answer.constraint if answer else asked)
        samplings = [
            checks.complete(
                call.params,
                num_prompt_tokens=len(token_ids),
                context_length=context_length,
                default_max_tokens=None if isinstance(prompt, Chat) else checks.COMPLETION_MAX_TOKENS,
                eos_token_ids=model.card.eos_token_ids,
            )
            for prompt, token_ids in zip(call.prompts, prompts, strict=True)
        ]
        choices_per_prompt = range(call.params.n or 1)
        checks.check_prompt_logprobs(call.params, len(choices_per_prompt) * sum(map(len, prompts)))
        wanted = [
            (prompt, token_ids, replace(sampling, choice_index=k, grammar=grammar))
            for prompt, token_ids, sampling in zip(call.prompts, prompts, samplings, strict=True)
            for k in choices_per_prompt
        ]
        most_output_tokens = sum(sampling.max_tokens for _, _, sampling in wanted)
        claim.reserve(sum(map(len, prompts)) + most_output_tokens, self._clock())
        level = replace(checks.service_level(call.params, self._levels[call.model]), priority=self._priority(call))
        wake = Wake(asyncio.get_running_loop())
        for index, (prompt, token_ids, sampling) in enumerate(wanted):
            # A chat's answer is a text of its own; a completion goes on where its prompt ends.
            context = () if isinstance(prompt, Chat) else token_ids[-NUM_CONTEXT_TOKENS:]
            request_id = RequestId(f"{call.call_id}-{index}")
            sequence = self._owner.open(
                request_id,
                call.model,
                token_ids,
                sampling,
                level,
                call.arrived_at_s,
                wake.set,
                tenant=call.tenant.id,
                cache_salt=call.tenant.cache_salt,
            )
            stops = checks.stops(call.params)
            meter = DeadlineMeter(level.slo, call.arrived_at_s, self._attainment.of(call.model))
            times = self._metrics.token_times(call.model, call.arrived_at_s)
            choices.append(
                Choice(
                    index,
                    sequence,
                    model.vocabulary,
                    context,
                    stops,
                    self._owner,
                    meter,
                    self._clock,
                    times,
                    keeps_stop=bool(call.params.include_stop_str_in_output),
                    scores_only=call.params.max_tokens == 0,
                    reading=answer.open_reading() if answer else None,
                )
            )
        return Generation(call, choices, model.vocabulary, wake, waiting, limit)


def _expected(
    model: Model, prompt: Prompt, token_ids: tuple[int, ...], asked: Constraint | None
) -> ExpectedAnswer | None:
    """None: all of the output is text."""
    if not isinstance(prompt, Chat):
        return None
    return expect(model.dialect, prompt.options, token_ids, model.vocabulary, asked)


def stopping() -> RequestError:
    return RequestError(ErrorCode.UNAVAILABLE, "The gateway is stopping.", retry_after_s=1.0)
