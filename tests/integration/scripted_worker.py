"""A router and a worker in one, on any bus: says what a test tells it to, and keeps what it was told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar

from shared import subjects
from shared.bus import Bus
from shared.ids import Incarnation, ModelName, RequestId, WorkerId
from shared.messages import (
    Accepted,
    AnyMessage,
    Assigned,
    Cancel,
    EndAck,
    Ended,
    Frame,
    LoadModel,
    Message,
    ModelLoad,
    OrderRefused,
    OrderTaken,
    PromptLogprobs,
    Refused,
    Resend,
    RouterBeat,
    SequenceTokens,
    Submit,
    TokenLogprobs,
    UnloadModel,
    WorkerBeat,
)

WORKER: Final = WorkerId("worker-0")
ROUTER: Final = Incarnation("router-1")
FIRST_LIFE: Final = Incarnation("life-1")
T = TypeVar("T", bound=Message)
Answer = Callable[[Submit], Sequence[int] | Refused | None]


def scored(token_ids: Sequence[int], num_top: int | None) -> tuple[TokenLogprobs, ...]:
    """Each is the most likely one, followed by its neighbours."""
    if num_top is None:
        return ()
    logprobs = tuple(-0.5 - k for k in range(num_top))
    return tuple(TokenLogprobs(i, -0.5, tuple(range(i, i + num_top)), logprobs) for i in token_ids)


def nothing(submit: Submit) -> None:
    """Accepted, and then silence until the test says something."""


@dataclass
class Running:
    submit: Submit
    output: list[int]
    ended: Ended | None = None


@dataclass(kw_only=True)
class ScriptedWorker:
    bus: Bus
    worker_bus: Bus  # may be the same
    models: tuple[ModelName, ...]
    answer: Answer = nothing
    is_router_deaf: bool = False  # Submits arrive, and nobody replies
    refusal: str = ""  # of what operators order
    life: Incarnation = FIRST_LIFE
    heard: list[Message] = field(default_factory=list)
    sequences: dict[RequestId, Running] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.num_cached_tokens = 0  # as the first tokens and each end say
        self._number = 0
        self._todo: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()
        self._news = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["ScriptedWorker"]:
        await self.bus.start()
        await self.worker_bus.start()
        await self.bus.subscribe(subjects.ALL_REQUESTS, self._on_request)
        await self.worker_bus.subscribe(subjects.worker(WORKER), self._on_worker)
        performing = asyncio.create_task(self._perform())
        await self.beat()
        try:
            yield self
        finally:
            performing.cancel()
            await asyncio.wait([performing])
            await self.bus.close()
            await self.worker_bus.close()

    def reset(self, answer: Answer = nothing) -> None:
        """Forgets what the last test did."""
        self.answer = answer
        self.is_router_deaf = False
        self.num_cached_tokens = 0
        self.heard.clear()
        self.sequences.clear()

    async def beat(self) -> None:
        last_frames = {running.submit.owner: self._number for running in self.sequences.values()}
        loads = tuple(ModelLoad(model, "resident") for model in self.models)
        await self.bus.publish(subjects.BEAT_ROUTER, RouterBeat(ROUTER))
        beat = WorkerBeat(WORKER, self.life, 1, loads, ROUTER, 0, 0, 0, last_frames)
        await self.worker_bus.publish(subjects.BEAT_WORKER, beat)

    async def say(
        self, request_id: RequestId, *token_ids: int, ended: Ended | None = None, attempt: int | None = None
    ) -> None:
        """One frame with the next tokens of one sequence."""
        running = self.sequences[request_id]
        first = len(running.output)
        running.output += token_ids
        running.ended = ended
        attempt = running.submit.attempt if attempt is None else attempt
        num_cached = None if first else self.num_cached_tokens
        logprobs = scored(token_ids, running.submit.sampling.num_logprobs)
        await self._frame(
            running.submit, SequenceTokens(request_id, attempt, first, token_ids, ended, num_cached, logprobs)
        )

    def lose(self, request_id: RequestId, *token_ids: int) -> None:
        """One frame with the next tokens that nobody hears."""
        self.sequences[request_id].output += token_ids
        self._number += 1

    async def score_prompt(self, request_id: RequestId, first: int = 0, last: int | None = None) -> None:
        """One frame with entries [first, last) of the log-probabilities of its prompt."""
        submit = self.sequences[request_id].submit
        entries = scored(submit.prompt[1:], submit.sampling.num_prompt_logprobs)[first:last]
        said = SequenceTokens(request_id, submit.attempt, 0, (), prompt_logprobs=PromptLogprobs(first, entries))
        await self._frame(submit, said)

    async def die(self) -> None:
        """Its next life knows nothing of the former one."""
        self.life = Incarnation(f"{self.life}'")
        self._number = 0
        self.sequences.clear()
        await self.beat()

    async def wait_for(self, kind: type[T], num: int = 1) -> list[T]:
        """All messages of that kind so far, once there are that many."""
        async with asyncio.timeout(10):
            while True:
                self._news.clear()
                found = [message for message in self.heard if isinstance(message, kind)]
                if len(found) >= num:
                    return found
                await self._news.wait()

    def _on_request(self, message: AnyMessage) -> Message | None:
        self._hear(message)
        if isinstance(message, Cancel):
            self.sequences.pop(message.request_id, None)
        if not isinstance(message, Submit) or self.is_router_deaf:
            return None
        if isinstance(refused := self.answer(message), Refused):
            return Refused(message.request_id, message.attempt, refused.code, refused.message, refused.retry_after_s)
        self.sequences[message.request_id] = Running(message, list(message.output))
        self._todo.put_nowait(lambda: self._run(message))
        return Accepted(message.request_id, message.attempt, ROUTER)

    def _on_worker(self, message: AnyMessage) -> Message | None:
        self._hear(message)
        if isinstance(message, Resend):
            self._todo.put_nowait(lambda: self._say_again(message))
        if isinstance(message, LoadModel | UnloadModel):
            return OrderRefused(WORKER, self.refusal) if self.refusal else OrderTaken(WORKER)
        return None

    def _hear(self, message: AnyMessage) -> None:
        if isinstance(message, Submit | Cancel | EndAck | Resend | LoadModel | UnloadModel):
            self.heard.append(message)
            self._news.set()

    async def _perform(self) -> None:
        while True:
            await (await self._todo.get())()

    async def _run(self, submit: Submit) -> None:
        """Frame by frame, one token each, until somebody cancels."""
        assigned = Assigned(submit.request_id, submit.attempt, WORKER, self.life)
        await self.bus.publish(subjects.owner(submit.owner), assigned)
        answer = self.answer(submit)
        token_ids = () if answer is None or isinstance(answer, Refused) else answer
        sampling = submit.sampling
        if token_ids and sampling.num_prompt_logprobs is not None and not submit.output:
            half = len(submit.prompt) // 2
            await self.score_prompt(submit.request_id, 0, half)
            await self.score_prompt(submit.request_id, half)
        for index in range(len(submit.output), min(len(token_ids), sampling.max_tokens)):
            if submit.request_id not in self.sequences:
                return
            is_last = index + 1 == sampling.max_tokens
            is_stop = token_ids[index] in sampling.stop_token_ids
            reason: Literal["stop", "length"] = "stop" if is_stop else "length"
            ended = Ended(reason, num_cached_tokens=self.num_cached_tokens) if is_stop or is_last else None
            await self.say(submit.request_id, token_ids[index], ended=ended)
            await asyncio.sleep(0)  # the gateway reads it now

    async def _say_again(self, resend: Resend) -> None:
        if running := self.sequences.get(resend.request_id):
            if running.submit.sampling.num_prompt_logprobs is not None:
                await self.score_prompt(resend.request_id, resend.first_prompt_logprob)
            missing = tuple(running.output[resend.first :])
            logprobs = scored(missing, running.submit.sampling.num_logprobs)
            again = SequenceTokens(
                resend.request_id, resend.attempt, resend.first, missing, running.ended, logprobs=logprobs
            )
            await self._frame(running.submit, again)

    async def _frame(self, submit: Submit, *sequences: SequenceTokens) -> None:
        self._number += 1
        frame = Frame(WORKER, self.life, self._number, sequences)
        await self.worker_bus.publish(subjects.owner(submit.owner), frame)
