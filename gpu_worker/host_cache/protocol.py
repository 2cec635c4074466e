"""What a worker and the host model cache say to each other: msgpack, one message per packet of a Unix socket.

    worker: Acquire -> Progress*, then Granted with the blob's descriptor, or NoRoom, or Refused
    worker: Release when its mapping is gone, or to take back what it asked for
    worker: Drop of what it does not expect to need soon
    cache:  Reclaim -> Release as soon as the worker can
    worker: Look -> Census

A worker numbers what it asks for. After a loss of the connection it offers what it still maps to the next owner.
"""

from typing import Final, NewType

import msgspec

BlobId = NewType("BlobId", str)  # SHA-256 of the bytes, 64 hex digits: equal bytes are kept once

MAX_NUMBERS: Final = 4096  # that one worker may have asked for or mapped
MAX_PACKET_BYTES: Final = 64 << 10  # room for a path, or for all numbers


class BlobSpec(msgspec.Struct, frozen=True):
    """A blob and the file that has it."""

    id: BlobId
    num_bytes: int
    path: str  # of weights.bin, absolute


class Acquire(msgspec.Struct, frozen=True, tag=True):
    number: int
    blob: BlobSpec
    preload: bool  # only if there is room: nobody is asked to go for it


class Offer(msgspec.Struct, frozen=True, tag=True):
    """With the descriptor of a blob that an earlier owner granted."""

    number: int
    blob: BlobSpec


class Release(msgspec.Struct, frozen=True, tag=True):
    number: int


class Used(msgspec.Struct, frozen=True, tag=True):
    """In the last second, each at least once."""

    numbers: tuple[int, ...]


class Drop(msgspec.Struct, frozen=True, tag=True):
    """Nobody here is expected to need it soon: it goes when nobody maps it, unless it is asked for before."""

    blob: BlobId


class Progress(msgspec.Struct, frozen=True, tag=True):
    number: int
    done_bytes: int


class Granted(msgspec.Struct, frozen=True, tag=True):
    """With the descriptor: sealed, of the blob's size."""

    number: int


class NoRoom(msgspec.Struct, frozen=True, tag=True):
    number: int


class Refused(msgspec.Struct, frozen=True, tag=True):
    number: int
    reason: str


class Reclaim(msgspec.Struct, frozen=True, tag=True):
    number: int


class Look(msgspec.Struct, frozen=True, tag=True):
    """Once a second: how is it?"""


class Census(msgspec.Struct, frozen=True, tag=True):
    """In reply: the whole cache, whoever maps it."""

    total_bytes: int
    used_bytes: int
    num_reads: int  # of blobs, since it was started
    num_evictions: int


FromWorker = Acquire | Offer | Release | Used | Drop | Look
FromCache = Progress | Granted | NoRoom | Refused | Reclaim | Census
