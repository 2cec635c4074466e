"""Blobs in a process's memory: private mappings of a memfd or a file, whose pages all processes of the host share."""

import mmap
import os
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from shared.errors import ModelError

_MADV_POPULATE_READ: Final = 22  # madvise(2), since Linux 5.14
_SLICE_BYTES: Final = 8 << 20  # populated at a time: madvise keeps the GIL, half a millisecond here


def map_blob(path: Path, num_bytes: int) -> Tensor:
    """A blob file in memory, without the host model cache: [num_bytes] uint8, host, page-aligned.

    Blocks; raises ModelError by name.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise ModelError(f"{path} can't be read: {error.strerror}") from error
    try:
        size_bytes = os.fstat(descriptor).st_size
        if size_bytes != num_bytes:
            raise ModelError(f"{path} has {size_bytes} bytes where its manifest says {num_bytes}")
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
        mapping = map_private(descriptor, num_bytes)
    finally:
        os.close(descriptor)
    populate(mapping)
    return as_tensor(mapping)


def map_private(descriptor: int, num_bytes: int) -> mmap.mmap:
    """Writable, as torch wants it; nobody else would see the writes."""
    return mmap.mmap(descriptor, num_bytes, flags=mmap.MAP_PRIVATE)


def populate(mapping: mmap.mmap) -> None:
    """Page tables, so that no step faults. Blocks. MAP_POPULATE would fault as if written: a copy for each process."""
    for start in range(0, len(mapping), _SLICE_BYTES):
        num_bytes = min(_SLICE_BYTES, len(mapping) - start)
        try:
            mapping.madvise(_MADV_POPULATE_READ, start, num_bytes)
        except OSError:  # an older kernel: one read per page does it
            mapping[start : start + num_bytes : mmap.PAGESIZE]


def as_tensor(mapping: mmap.mmap) -> Tensor:
    """[len(mapping)] uint8; the mapping lives as long as any view of it."""
    return torch.frombuffer(mapping, dtype=torch.uint8)
