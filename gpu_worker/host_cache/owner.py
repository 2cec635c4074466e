"""The owner of a host's blobs: acts on what the policy decides. One task per worker, one that reads files.

Acquire -> granted at once, or into the line -> make room -> read -> grant to all who asked meanwhile
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import Final, assert_never

from gpu_worker.host_cache.blob_file import is_sealed
from gpu_worker.host_cache.channel import Channel, ChannelClosed
from gpu_worker.host_cache.policy import CachePolicy, MappingId, whole_pages
from gpu_worker.host_cache.protocol import (
    MAX_NUMBERS,
    Acquire,
    BlobId,
    BlobSpec,
    Census,
    Drop,
    FromWorker,
    Granted,
    Look,
    NoRoom,
    Offer,
    Progress,
    Reclaim,
    Refused,
    Release,
    Used,
)
from shared.errors import ModelError
from shared.priority import others_first
from shared.units import format_size

log = logging.getLogger(__name__)

MAX_WORKERS: Final = 1024
_PROGRESS_S: Final = 1.0  # between two reports of one read
_DEFAULT_BYTES_PER_S: Final = 1e9  # of reading, until it is measured

Read = Callable[[BlobSpec, Callable[[int], None], threading.Event], int]


@dataclass(eq=False, slots=True)
class _Worker:
    number: int
    channel: Channel[FromWorker]
    mapped: dict[int, BlobId] = field(default_factory=dict)
    asked: dict[int, BlobId] = field(default_factory=dict)  # in the line


@dataclass(slots=True)
class _Wanted:
    """A place in the line."""

    blob: BlobSpec
    askers: dict[MappingId, _Worker] = field(default_factory=dict)
    may_evict: bool = False


class CacheOwner:
    def __init__(self, total_bytes: int, read: Read, clock: Callable[[], float], *, reclaim_timeout_s: float) -> None:
        self._policy = CachePolicy(total_bytes)
        self._read = read
        self._clock = clock
        self._reclaim_timeout_s = reclaim_timeout_s
        self._descriptors: dict[BlobId, int] = {}  # of what is filled
        self._line: dict[BlobId, _Wanted] = {}  # in the order of asking
        self._workers: dict[int, _Worker] = {}
        self._num_connections = 0
        self._num_reads = 0
        self._num_evictions = 0
        self._changed = asyncio.Event()
        self._bytes_per_s = _DEFAULT_BYTES_PER_S

    # --- one worker -----------------------------------------------------------------------------

    async def attend(self, channel: Channel[FromWorker]) -> None:
        """Until it disconnects; what it mapped counts as given back then."""
        if len(self._workers) >= MAX_WORKERS:
            log.error("%d workers are connected; another one is turned away", MAX_WORKERS)
            channel.close()
            return
        self._num_connections += 1
        worker = self._workers[self._num_connections] = _Worker(self._num_connections, channel)
        try:
            while True:
                message, descriptor = await channel.receive()
                self._on_message(worker, message, descriptor)
        except ChannelClosed as error:
            log.info("worker connection %d ended: %s", worker.number, error)
        finally:
            channel.close()
            del self._workers[worker.number]
            for number in (*worker.mapped, *worker.asked):
                self._release(worker, number)

    def _on_message(self, worker: _Worker, message: FromWorker, descriptor: int | None) -> None:
        if isinstance(message, Offer):
            if descriptor is not None:
                self._adopt(worker, message, descriptor)
            return
        if descriptor is not None:
            os.close(descriptor)
        match message:
            case Acquire():
                self._acquire(worker, message)
            case Release(number):
                self._release(worker, number)
            case Used(numbers):
                for number in numbers:
                    if number in worker.mapped:
                        self._policy.note_use(worker.mapped[number], self._clock())
            case Drop(blob):
                self._policy.drop(blob)
                self._forget_gone()
            case Look():
                worker.channel.send(self._census())
            case unknown:
                assert_never(unknown)

    def _acquire(self, worker: _Worker, message: Acquire) -> None:
        number, blob = message.number, message.blob
        if reason := self._refusal(worker, blob):
            worker.channel.send(Refused(number, reason))
        elif self._policy.offers(blob.id):
            self._policy.note_use(blob.id, self._clock())
            self._grant(worker, number, blob.id)
        else:
            wanted = self._line.setdefault(blob.id, _Wanted(blob))
            wanted.askers[worker.number, number] = worker
            wanted.may_evict |= not message.preload
            worker.asked[number] = blob.id
            self._changed.set()

    def _census(self) -> Census:
        return Census(self._policy.total_bytes, self._policy.used_bytes, self._num_reads, self._num_evictions)

    def _refusal(self, worker: _Worker, blob: BlobSpec) -> str | None:
        if whole_pages(blob.num_bytes) > self._policy.total_bytes:
            return (
                f"{blob.path} needs {format_size(blob.num_bytes)}, the host model cache has "
                f"{format_size(self._policy.total_bytes)}: raise worker.host_memory_bytes"
            )
        if len(worker.mapped) + len(worker.asked) >= MAX_NUMBERS:
            return f"the host model cache serves at most {MAX_NUMBERS} blobs to a worker"
        return None

    def _grant(self, worker: _Worker, number: int, blob: BlobId) -> None:
        self._policy.map(blob, (worker.number, number))
        worker.mapped[number] = blob
        worker.channel.send(Granted(number), self._descriptors[blob])

    def _release(self, worker: _Worker, number: int) -> None:
        mapping = worker.number, number
        if (blob := worker.asked.pop(number, None)) is not None:
            del self._line[blob].askers[mapping]
            self._changed.set()
        elif (blob := worker.mapped.pop(number, None)) is not None:
            self._policy.unmap(blob, mapping)
            self._forget_gone()

    def _adopt(self, worker: _Worker, message: Offer, descriptor: int) -> None:
        """Workers keep what a former owner granted; the first who offers it makes it this owner's."""
        blob = message.blob
        if is_sealed(descriptor, blob.num_bytes):
            known = self._descriptors.get(blob.id)
            if known is None and blob.id not in self._line and whole_pages(blob.num_bytes) <= self._policy.free_bytes:
                self._policy.reserve(blob.id, blob.num_bytes, self._clock())
                self._policy.fill(blob.id, blob.num_bytes / self._bytes_per_s)
                known = self._descriptors[blob.id] = os.dup(descriptor)
            if known is not None and self._policy.offers(blob.id) and os.path.sameopenfile(known, descriptor):
                self._policy.map(blob.id, (worker.number, message.number))
                worker.mapped[message.number] = blob.id
                os.close(descriptor)
                return
        os.close(descriptor)
        worker.channel.send(Reclaim(message.number))  # a second copy, or more than there is room for

    # --- the line -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Fetches what is wanted, one after the other: a file is read by several threads. Until cancelled."""
        while True:
            while self._line:
                await self._fetch(next(iter(self._line.values())))
            self._changed.clear()
            await self._changed.wait()

    async def _fetch(self, wanted: _Wanted) -> None:
        blob, is_there, reason = wanted.blob.id, True, None
        try:
            if not self._policy.offers(blob):  # it may have been asked to leave, and stayed
                is_there = await self._make_room(wanted)
                if is_there:
                    await self._fill(wanted)
        except ModelError as error:
            reason = str(error)
            log.error("%s", reason)
        del self._line[blob]
        for (_, number), worker in wanted.askers.items():
            del worker.asked[number]
            if reason is not None:
                worker.channel.send(Refused(number, reason))
            elif is_there:
                self._grant(worker, number, blob)
            else:
                worker.channel.send(NoRoom(number))

    async def _make_room(self, wanted: _Wanted) -> bool:
        """False where nobody is waiting any more, or others would have to go for a preload.

        Raises ModelError where they don't go. Who was asked and is still there stays.
        """
        num_bytes = whole_pages(wanted.blob.num_bytes)
        try:
            async with asyncio.timeout(self._reclaim_timeout_s):
                while self._policy.free_bytes < num_bytes:
                    if not (wanted.askers and wanted.may_evict):
                        return False
                    for connection, number in self._policy.ask_to_leave(num_bytes, self._clock()):
                        self._workers[connection].channel.send(Reclaim(number))
                    self._forget_gone()
                    if self._policy.free_bytes < num_bytes:
                        self._changed.clear()
                        await self._changed.wait()
        except TimeoutError:
            raise ModelError(
                f"no room for {wanted.blob.path}: workers use what would have to go for it, and did not let go within "
                f"{self._reclaim_timeout_s:g} s"
            ) from None
        finally:
            self._policy.stay()
        return True

    async def _fill(self, wanted: _Wanted) -> None:
        blob, loop = wanted.blob, asyncio.get_running_loop()
        started_at_s = reported_at_s = self._clock()
        stopping = threading.Event()

        def report(done_bytes: int) -> None:
            """In the thread that reads."""
            nonlocal reported_at_s
            if self._clock() - reported_at_s >= _PROGRESS_S:
                reported_at_s = self._clock()
                with suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(self._report, wanted, done_bytes)

        def read() -> int:
            # What nobody waits for yet leaves the cores to running steps.
            is_preload = not wanted.may_evict and len(self._line) == 1
            with others_first() if is_preload else nullcontext():
                return self._read(blob, report, stopping)

        self._policy.reserve(blob.id, blob.num_bytes, started_at_s)
        try:
            self._descriptors[blob.id] = await asyncio.to_thread(read)
        except BaseException:
            stopping.set()
            self._policy.abandon(blob.id)
            raise
        read_s = max(self._clock() - started_at_s, 1e-6)
        self._bytes_per_s = blob.num_bytes / read_s
        self._policy.fill(blob.id, read_s)
        self._num_reads += 1
        log.info("%s: %s read in %.2f s", blob.path, format_size(blob.num_bytes), read_s)

    def _report(self, wanted: _Wanted, done_bytes: int) -> None:
        for (_, number), worker in wanted.askers.items():
            worker.channel.send(Progress(number, done_bytes))

    def _forget_gone(self) -> None:
        for blob in self._policy.gone():
            os.close(self._descriptors.pop(blob))
            self._num_evictions += 1
            log.info("blob %s leaves; %s are free", blob[:16], format_size(self._policy.free_bytes))
        self._changed.set()
