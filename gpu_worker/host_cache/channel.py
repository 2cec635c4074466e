"""Messages and descriptors over a Unix socket of whole packets, within asyncio.

A receiver that leaves too much unread is cut off: nothing here grows without bound.
"""

import array
import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Generic, TypeVar

import msgspec

from gpu_worker.host_cache.protocol import MAX_PACKET_BYTES, FromCache, FromWorker
from shared.errors import ConfigError

log = logging.getLogger(__name__)

_MAX_UNSENT: Final = 4096  # messages
_BACKLOG: Final = 128  # connections not yet accepted
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid: unix(7)

Inbound = TypeVar("Inbound")

worker_decoder: Final[msgspec.msgpack.Decoder[FromWorker]] = msgspec.msgpack.Decoder(FromWorker)
cache_decoder: Final[msgspec.msgpack.Decoder[FromCache]] = msgspec.msgpack.Decoder(FromCache)


class ChannelClosed(Exception):
    """By the other end, or by us because of it."""


class Channel(Generic[Inbound]):
    """Owns its socket. Sending never fails: a broken channel shows where it is read."""

    def __init__(self, sock: socket.socket, decoder: msgspec.msgpack.Decoder[Inbound]) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._decoder = decoder
        self._encoder = msgspec.msgpack.Encoder()
        self._unsent: deque[tuple[bytes, list[int]]] = deque()  # packet, descriptors of its own
        self._closed = False
        self._waiting: asyncio.Future[None] | None = None  # of the one that receives

    def send(self, message: FromWorker | FromCache, descriptor: int | None = None) -> None:
        if self._closed:
            return
        packet, descriptors = self._encoder.encode(message), [] if descriptor is None else [descriptor]
        if self._unsent or not self._try_send(packet, descriptors):
            if len(self._unsent) >= _MAX_UNSENT:
                log.warning("a connection is ended: its reader is stuck")
                self._end()
                return
            self._unsent.append((packet, [os.dup(each) for each in descriptors]))
            asyncio.get_running_loop().add_writer(self._sock, self._flush)

    async def receive(self) -> tuple[Inbound, int | None]:
        """The next message, and its descriptor, which is the caller's to close. Raises ChannelClosed."""
        while not self._closed:
            try:
                packet, descriptors, _, _ = socket.recv_fds(self._sock, MAX_PACKET_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                await self._until_readable()
                continue
            except OSError as error:
                raise ChannelClosed(str(error)) from error
            if not packet:
                break
            try:
                return self._decoder.decode(packet), descriptors[0] if descriptors else None
            except msgspec.MsgspecError as error:
                _close(descriptors)
                raise ChannelClosed(f"not understood: {error}") from error
        raise ChannelClosed("the other end is gone")

    def close(self) -> None:
        """Once, whatever state it is in."""
        self._end()
        asyncio.get_running_loop().remove_writer(self._sock)
        self._sock.close()
        for _, descriptors in self._unsent:
            _close(descriptors)
        self._unsent.clear()

    def _try_send(self, packet: bytes, descriptors: Sequence[int]) -> bool:
        """False where the socket is full. Without descriptors there must be no ancillary data at all."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            self._sock.sendmsg([packet], rights)
        except BlockingIOError:
            return False
        except OSError:
            self._end()
        return True

    def _flush(self) -> None:
        while self._unsent and self._try_send(*self._unsent[0]):
            _close(self._unsent.popleft()[1])
        if not self._unsent or self._closed:
            asyncio.get_running_loop().remove_writer(self._sock)

    async def _until_readable(self) -> None:
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        loop.add_reader(self._sock, self._wake)
        try:
            await self._waiting
        finally:
            loop.remove_reader(self._sock)
            self._waiting = None

    def _end(self) -> None:
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """For this user's processes alone. Raises ConfigError where somebody listens there already."""
    path = path.expanduser()
    with contextlib.suppress(OSError), connect(path):
        raise ConfigError(f"worker.host_cache_socket: a host model cache runs at {path} already")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        try:
            unready = path.with_name(f"{path.name}.{os.getpid()}")
            unready.unlink(missing_ok=True)
            with _short_name(unready) as name:
                listener.bind(name)
            unready.chmod(0o600)
            listener.listen(_BACKLOG)
            listener.setblocking(False)
            unready.rename(path)  # whose file is there listens, or was killed
        except OSError as error:
            raise ConfigError(f"worker.host_cache_socket {path}: {error.strerror}") from error
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def connect(path: Path) -> socket.socket:
    """Raises OSError; PermissionError where another user listens."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.setblocking(False)
        with _short_name(path) as name:
            sock.connect(name)
        if not is_ours(sock):
            raise PermissionError(f"{path} belongs to another user's process")
    except BaseException:
        sock.close()
        raise
    return sock


def is_ours(sock: socket.socket) -> bool:
    """Whether the other end runs as this user."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(credentials)[1] == os.getuid())


@contextlib.contextmanager
def _short_name(path: Path) -> Iterator[str]:
    """Another name of `path`: an address has room for 107 bytes."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
