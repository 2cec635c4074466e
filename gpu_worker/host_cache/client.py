"""A worker's end of the host model cache: asks for blobs, maps them, gives them back, survives the owner.

A blob counts as mapped until the last view of it is gone: then, and only then, the owner hears of its release.
"""

import asyncio
import logging
import mmap
import os
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Final, assert_never

from torch import Tensor

from gpu_worker.host_cache.channel import Channel, ChannelClosed, cache_decoder
from gpu_worker.host_cache.mapping import as_tensor, map_private, populate
from gpu_worker.host_cache.protocol import (
    Acquire,
    BlobId,
    BlobSpec,
    Census,
    Drop,
    FromCache,
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
from gpu_worker.host_cache.reach import Reach
from shared.errors import ModelError

log = logging.getLogger(__name__)

_REPORT_S: Final = 1.0  # between two reports of uses
_RETRY_S: Final = 0.1  # between two attempts to connect
_UNREACHABLE_S: Final = 30.0  # without an owner, after which a blob that is not mapped fails


@dataclass(frozen=True, slots=True)
class _Asked:
    message: Acquire
    answer: asyncio.Future[bool]  # whether it was granted
    on_progress: Callable[[int], None]


@dataclass(frozen=True, slots=True)
class _Granted:
    blob: BlobSpec
    descriptor: int  # ours, as long as the mapping lives: the next owner gets it


class HostCacheClient:
    """Of one worker, in the thread of its loop. `run` keeps the connection."""

    def __init__(self, reach: Reach) -> None:
        self.census: Census | None = None  # the last one; None where there is no owner
        self._reach = reach
        self._channel: Channel[FromCache] | None = None
        self._numbers = count(1)
        self._asked: dict[int, _Asked] = {}
        self._granted: dict[int, _Granted] = {}
        self._used: set[BlobId] = set()

    async def run(self, on_reclaim: Callable[[BlobId], None]) -> None:
        """Until cancelled. on_reclaim: the owner wants a blob back; drop what views it as soon as no step uses it."""
        try:
            while True:
                try:
                    channel = Channel(await self._reach.connect(), cache_decoder)
                except OSError as error:
                    log.debug("no host model cache: %s", error)
                else:
                    await self._converse(channel, on_reclaim)
                await asyncio.sleep(_RETRY_S)
        finally:
            await self._reach.close()

    async def acquire(
        self, blob: BlobSpec, *, preload: bool, on_progress: Callable[[int], None] = lambda done_bytes: None
    ) -> Tensor | None:
        """[num_bytes] uint8, host; None for a preload that found no room. Waits for a new owner where one is lost.

        Raises ModelError: a bad file, no room, or no owner for long.
        """
        number = next(self._numbers)
        asked = _Asked(Acquire(number, blob, preload), asyncio.get_running_loop().create_future(), on_progress)
        self._asked[number] = asked
        self._send(asked.message)
        try:
            if not await self._answer(asked):
                return None
            mapping = map_private(self._granted[number].descriptor, blob.num_bytes)
        except BaseException:
            self._give_back(number)
            raise
        finally:
            del self._asked[number]
        weakref.finalize(mapping, _tell, asyncio.get_running_loop(), self._give_back, number).atexit = False
        return await _populated(mapping)

    def note_use(self, blob: BlobId) -> None:
        """Tells its value to the owner, within a second."""
        self._used.add(blob)

    def drop(self, blob: BlobId) -> None:
        """It may leave the host when nobody maps it any more. Without an owner nothing keeps it anyway."""
        self._send(Drop(blob))

    async def _answer(self, asked: _Asked) -> bool:
        while True:
            done, _ = await asyncio.wait([asked.answer], timeout=_UNREACHABLE_S)
            if done:
                return asked.answer.result()
            if self._channel is None:
                raise ModelError(f"{asked.message.blob.path}: no host model cache for {_UNREACHABLE_S:g} s")

    def _give_back(self, number: int) -> None:
        """Nothing views it any more, or nobody waits for it."""
        if (granted := self._granted.pop(number, None)) is not None:
            os.close(granted.descriptor)
        self._send(Release(number))

    def _send(self, message: FromWorker, descriptor: int | None = None) -> None:
        """What is lost while there is no owner is said again to the next."""
        if self._channel is not None:
            self._channel.send(message, descriptor)

    async def _converse(self, channel: Channel[FromCache], on_reclaim: Callable[[BlobId], None]) -> None:
        self._channel = channel
        for number, granted in self._granted.items():
            self._send(Offer(number, granted.blob), granted.descriptor)
        for asked in self._asked.values():
            if not asked.answer.done():
                self._send(asked.message)
        reporting = asyncio.create_task(self._report_uses())
        try:
            while True:
                message, descriptor = await channel.receive()
                if isinstance(message, Reclaim):
                    if message.number in self._granted:
                        on_reclaim(self._granted[message.number].blob.id)
                elif isinstance(message, Census):
                    self.census = message
                else:
                    self._on_message(message, descriptor)
        except ChannelClosed as error:
            log.warning("the host model cache is lost (%s); blobs stay mapped", error)
        finally:
            reporting.cancel()
            self._channel = self.census = None
            channel.close()

    def _on_message(self, message: Granted | Progress | NoRoom | Refused, descriptor: int | None) -> None:
        match message:
            case Granted(number):
                self._on_granted(number, descriptor)
            case Progress() | NoRoom() | Refused():
                if (asked := self._asked.get(message.number)) is not None and not asked.answer.done():
                    _on_answer(asked, message)
            case unknown:
                assert_never(unknown)

    def _on_granted(self, number: int, descriptor: int | None) -> None:
        asked = self._asked.get(number)
        if asked is not None and descriptor is not None and not asked.answer.done():
            self._granted[number] = _Granted(asked.message.blob, descriptor)
            asked.answer.set_result(True)
        elif descriptor is not None:  # nobody waits any more, and the owner was told
            os.close(descriptor)

    async def _report_uses(self) -> None:
        while True:
            self._send(Look())
            await asyncio.sleep(_REPORT_S)
            used, self._used = self._used, set()
            numbers = [number for number, granted in self._granted.items() if granted.blob.id in used]
            if numbers:
                self._send(Used(tuple(numbers)))


def _on_answer(asked: _Asked, message: Progress | NoRoom | Refused) -> None:
    match message:
        case Progress(_, done_bytes):
            asked.on_progress(done_bytes)
        case NoRoom():
            asked.answer.set_result(False)
        case Refused(_, reason):
            asked.answer.set_exception(ModelError(reason))
        case unknown:
            assert_never(unknown)


def _tell(loop: asyncio.AbstractEventLoop, give_back: Callable[[int], None], number: int) -> None:
    """A mapping's last view may go in any thread."""
    with suppress(RuntimeError):  # the loop is closed, and the connection with it
        loop.call_soon_threadsafe(give_back, number)


async def _populated(mapping: mmap.mmap) -> Tensor:
    await asyncio.to_thread(populate, mapping)
    return as_tensor(mapping)
