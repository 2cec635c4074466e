"""The token loop: one asyncio task owns all state, one device thread runs what takes long.

    collect arrivals and cancels -> plan -> make room -> activate model -> step -> commit -> emit

Whatever arrives takes effect between two steps.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from gpu_worker.calibration import Calibration, Expected
from gpu_worker.departures import Departures
from gpu_worker.device.base import Device
from gpu_worker.execution.executor import PartOutput
from gpu_worker.execution.streaming import Stream
from gpu_worker.fetching import Fetcher
from gpu_worker.guidance.guidance import Guidance
from gpu_worker.inbox import Inbound, Inbox
from gpu_worker.kv.store import KvStore
from gpu_worker.loader import BlobSource, Loader, Prefetches
from gpu_worker.metrics import EngineMetrics
from gpu_worker.orders import OrderedBlobs, Orders
from gpu_worker.pins import Pins
from gpu_worker.planned_step import PlannedStep, bounded
from gpu_worker.roster import Roster
from gpu_worker.scheduling.measured_costs import SwitchCosts
from gpu_worker.scheduling.policy import Limits, Policy, Turn, WorkerView
from gpu_worker.sequence import Sequence
from gpu_worker.served_model import ServedModel
from gpu_worker.split import Split
from gpu_worker.step_room import StepRoom
from gpu_worker.switches import Switches
from gpu_worker.timeline import TimelineRing
from gpu_worker.weights import Weights
from shared import subjects
from shared.bus import Bus
from shared.errors import BusError, KottosError
from shared.ids import ModelName, WorkerId
from shared.messages import LoadModel, Message, UnloadModel

log = logging.getLogger(__name__)

_OWNER_BEAT_S = 1.0

T = TypeVar("T")


class HeldBlobs(BlobSource, OrderedBlobs, Protocol):
    """Of the host's memory. What is held may be used where it lies."""


class Engine:
    def __init__(
        self,
        worker: WorkerId,
        bus: Bus,
        roster: Roster,
        policy: Policy,
        limits: Limits,
        kv: KvStore,
        weights: Weights,
        blobs: HeldBlobs,
        device: Device,
        clock: Callable[[], float],
        metrics: EngineMetrics,
        split: Split | None = None,
        switch_costs: SwitchCosts | None = None,
    ) -> None:
        self._bus = bus
        self._roster = roster
        self._policy = policy
        self._limits = limits
        self._kv = kv
        self._room = StepRoom(roster.models, kv, split, self._on_device)
        self._blobs = blobs
        self._clock = clock
        self._metrics = metrics
        self._switch_costs = switch_costs
        self._inbox = Inbox(clock)
        self._wake = asyncio.Event()
        self._num_steps = 0
        self._num_steps_since_copy = limits.turn_steps
        self._beats_counted_at_s = 0.0
        self._switches = Switches(worker, clock)
        self.timeline = TimelineRing()
        self._device_thread = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._loader = Loader(device, weights, blobs, roster.models, self._turn_order, self._on_device, clock)
        self._pins = Pins(roster.models, self._loader, blobs)
        self._fetcher = Fetcher(blobs, self._turn_order, self._wake.set, clock)
        self._orders = Orders(roster.models, self._loader, blobs, self._fetcher, self._switches, self._wake)
        self._guidance = Guidance(roster, self._wake.set, limits.max_running)
        self._departures = Departures(roster.models, self._loader, self._fetcher, self._switches, metrics)
        self._calibration = Calibration(
            roster.models, weights, blobs, kv, self._on_device, clock, limits.max_step_tokens
        )

    @property
    def prefetches(self) -> Prefetches:
        return self._loader.prefetches

    def receive(self, message: Inbound) -> None:
        """From the bus's callbacks, in the loop's thread."""
        self._inbox.put(message)
        self._wake.set()

    def retire(self, model: ModelName, on_gone: Callable[[], None]) -> None:
        """It gets no new sequences, and is gone when the last one it has is over."""
        self._departures.begin(model, on_gone)
        self._wake.set()

    def order(self, order: LoadModel | UnloadModel) -> str:
        """Why an operator's order is refused; empty: it is carried out between steps."""
        return self._orders.take(order)

    def calibrate(self, model: ModelName, expected: Expected) -> None:
        """Measures what its steps cost, while there is no work."""
        self._calibration.expect(model, expected)
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(self._wake.set)

        self._kv.open(on_moved=wake)
        try:
            while True:
                self._wake.clear()
                self._collect()
                await self._departures.advance()
                await self._orders.advance()
                await self._room.gather()
                turn = self._plan()
                goes_on = turn is not None and await self._take(turn)
                await self._emit()
                if not goes_on and not await self._advance_idle():
                    await self._idle()
        finally:
            self._guidance.close()
            await self._orders.close()
            await self._fetcher.close()
            await self._loader.close()
            self._kv.close()
            self._device_thread.shutdown(wait=False, cancel_futures=True)

    async def _advance_idle(self) -> bool:
        """What is done while no step is due, one thing at a time: whether there was any."""
        return await self._pins.advance() or await self._orders.settle_in() or await self._calibration.advance()

    async def _take(self, turn: Turn) -> bool:
        """Whether there may be more to do at once; else a copy's end wakes the loop."""
        self._calibration.pause()
        model = self._roster.models[turn.model]
        planned = self._room.make(model, self._shares(model, turn))
        if planned is None or not planned.shares:
            return planned is not None
        self._num_steps += 1
        model.last_step = self._num_steps  # a step that fails was its model's turn, too
        try:
            with self._blobs.hold(model.name):
                stream = await self._activate(model)
                outputs = await self._step(model, planned, stream)
        except KottosError as error:
            log.error("model %s: %s", model.name, error)
            self._roster.fail(planned.sequences(), self._clock(), str(error))
        except Exception:
            log.exception("a step of model %s failed", model.name)
            self._roster.fail(planned.sequences(), self._clock(), "the step failed")
        else:
            self._commit(planned, outputs)
        return True

    def _collect(self) -> None:
        self._kv.settle()
        now_s = self._clock()
        for failure in self._fetcher.take_failures():
            log.error("model %s: %s", failure.model, failure.reason)
            model = self._roster.models[failure.model]
            self._roster.fail([*model.running, *model.waiting], now_s, failure.reason)
        self._inbox.deliver(self._roster, now_s)
        if now_s - self._beats_counted_at_s >= _OWNER_BEAT_S:
            self._beats_counted_at_s = now_s
            if self._bus.connected:
                self._roster.count_missed_beats()
        self._guidance.look(now_s)
        self._metrics.note_work(self._roster.models, now_s)

    def _turn_order(self) -> list[ModelName]:
        return self._policy.turn_order(self._view(), self._clock())

    def _view(self) -> WorkerView:
        return WorkerView(
            self._roster.models.values(),
            self._limits,
            self._num_steps_since_copy,
            self._loader.no_place_ahead,
            self._fetcher.awaited,
        )

    def _plan(self) -> Turn | None:
        self._fetcher.look(self._view())
        turn = self._policy.plan(self._view(), self._clock())
        if turn is None and self._fetcher.pass_over():
            self._wake.set()
        return turn

    def _shares(self, model: ServedModel, turn: Turn) -> Iterator[tuple[Sequence, int]]:
        wanted = ((self._roster.get(request_id), num_tokens) for request_id, num_tokens in turn.num_tokens.items())
        shares = ((sequence, num_tokens) for sequence, num_tokens in wanted if sequence is not None)
        return bounded(shares, model.max_scored_tokens)

    async def _activate(self, model: ServedModel) -> Stream | None:
        """Points the model's parameters at its weights, which may still be on their way: then by the stream."""
        decided_at_s = self._clock()
        self._metrics.took_turn(model.name, decided_at_s)
        asked_at_s = self._fetcher.note_step(model.name)
        arrival = await self._loader.bring(model.name)
        if arrival.kind in ("copied", "streamed"):
            self._num_steps_since_copy = 0
        model.executor.bind(arrival.base)
        if asked_at_s is not None:
            arrival, decided_at_s = arrival._replace(kind="from disk"), asked_at_s
        switch = self._switches.note(model.name, arrival, decided_at_s)
        if switch is not None and self.timeline.is_watched:
            self.timeline.switched(model.name, switch.told())
        if switch is not None and self._roster.traces.is_busy:
            self._roster.traces.switched(switch)
        return arrival.stream

    async def _step(self, model: ServedModel, planned: PlannedStep, stream: Stream | None) -> list[PartOutput]:
        now_s = self._clock()
        for sequence, _ in planned.shares:
            if sequence.first_step_at_s is None:
                sequence.first_step_at_s = now_s
                if sequence.attempt == 0:
                    self._metrics.began(model.name, now_s - sequence.arrived_at_s)
        parts = planned.parts()
        guided = self._guidance.begin_step(planned.sequences(), parts)

        def timed_step() -> tuple[list[PartOutput], float]:
            began_at_s = self._clock()
            outputs = model.executor.step(parts, stream)
            took_s = self._clock() - began_at_s
            for rows in guided:
                rows.judge(outputs)
            return outputs, took_s

        self._num_steps_since_copy += 1
        self._loader.prefetch()
        outputs, took_s = await self._on_device(timed_step)
        if stream is None:  # else it waited for weights
            model.costs.observe(planned.shape(), took_s)
        num_decode = planned.num_decode_tokens()
        num_prefill, took_s = planned.num_tokens() - num_decode, self._clock() - now_s
        self._metrics.stepped(model.name, num_prefill, num_decode, took_s)
        if self.timeline.is_watched:
            self.timeline.stepped(model.name, now_s, took_s, num_prefill, num_decode, planned.num_drawn_tokens())
        if self._roster.traces.is_busy:
            self._roster.traces.stepped(planned.shares, now_s, now_s + took_s)
        return outputs

    def _commit(self, planned: PlannedStep, outputs: list[PartOutput]) -> None:
        now_s = self._clock()
        for (sequence, num_tokens), output in zip(planned.shares, outputs, strict=True):
            sequence.num_computed_tokens += num_tokens
            if output.prompt_logprobs:
                self._roster.score(sequence, output.prompt_logprobs)
            if output.token_id is not None:
                self._roster.advance(sequence, output.token_id, now_s, output.logprobs)

    async def _emit(self) -> None:
        for owner, frame in self._roster.outbox.drain():
            await self._publish(subjects.owner(owner), frame)
        for event in self._switches.drain():
            self._metrics.switched(event)
            if self._switch_costs is not None:
                self._switch_costs.observe(event.kind, event.copied_bytes, event.waited_s + event.overlapped_s)
            await self._publish(subjects.EVENT_MODEL_SWITCHED, event)

    async def _publish(self, subject: str, message: Message) -> None:
        try:
            await self._bus.publish(subject, message)
        except BusError as error:  # the owner sees the gap in the numbers and asks again
            log.warning("a %s was not sent: %s", type(message).__name__, error)

    async def _idle(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_OWNER_BEAT_S):  # not wait_for: it can swallow a cancel (CPython 3.11)
                await self._wake.wait()

    def _on_device(self, work: Callable[[], T]) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(self._device_thread, work)
