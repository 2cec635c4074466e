"""What a worker and a process that follows grammars say to each other: msgpack, each message with its length before it.

on one connection:       Begin -> Begun, while steps go on
on another, in a step:   Fill -> Filled, its masks lie in the shared memory; then Accept -> Accepted
"""

import socket
from typing import Final, TypeVar

import msgspec

MAX_WORDS: Final = 1 << 15  # of a mask: a vocabulary of 2^20 tokens
_LENGTH_BYTES: Final = 4


class State(msgspec.Struct, frozen=True, array_like=True):
    """Of a guide (gpu_worker/guidance/guide.py::Guide)."""

    failure: str = ""
    is_complete: bool = False


class Begin(msgspec.Struct, frozen=True, array_like=True):
    key: int  # of the guide, from now on
    grammar: str
    output: tuple[int, ...]  # that the client has got
    forgotten: tuple[int, ...] = ()  # guides that nobody needs any more


class Begun(msgspec.Struct, frozen=True, array_like=True):
    state: State = State()
    num_words: int = 0  # of a mask
    reason: str = ""  # why there is no guide, for the client
    is_clients_fault: bool = False


class Row(msgspec.Struct, frozen=True, array_like=True):
    """What one sequence may draw from next is wanted."""

    key: int
    stop_ids: tuple[int, ...]
    may_stop: bool


class Fill(msgspec.Struct, frozen=True, array_like=True, tag=True):
    number: int  # of the request, which its reply repeats
    rows: tuple[Row, ...]
    forgotten: tuple[int, ...] = ()


class Filled(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The masks lie one after the other from the beginning of the shared memory."""

    number: int
    states: tuple[State, ...]


class Accept(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Tokens that were drawn, none of which ends its sequence."""

    number: int
    tokens: tuple[tuple[int, int], ...]  # key, token id


class Accepted(msgspec.Struct, frozen=True, array_like=True, tag=True):
    number: int
    belong: tuple[bool, ...]  # to the output
    states: tuple[State, ...]


T = TypeVar("T")
begin_decoder: Final = msgspec.msgpack.Decoder(Begin)
begun_decoder: Final = msgspec.msgpack.Decoder(Begun)
step_decoder: Final = msgspec.msgpack.Decoder(Fill | Accept)
reply_decoder: Final = msgspec.msgpack.Decoder(Filled | Accepted)
_encoder: Final = msgspec.msgpack.Encoder()


def send(connection: socket.socket, message: msgspec.Struct) -> None:
    """Raises OSError."""
    body = _encoder.encode(message)
    connection.sendall(len(body).to_bytes(_LENGTH_BYTES, "big") + body)


def receive(connection: socket.socket, decoder: msgspec.msgpack.Decoder[T]) -> T:
    """Waits for it. Raises OSError: also when the other end is gone, or silent for as long as the socket's time-out."""
    return decoder.decode(_exactly(connection, int.from_bytes(_exactly(connection, _LENGTH_BYTES), "big")))


def _exactly(connection: socket.socket, num_bytes: int) -> bytes:
    pieces = bytearray()
    while len(pieces) < num_bytes:
        piece = connection.recv(num_bytes - len(pieces))
        if not piece:
            raise ConnectionResetError("the other end is gone")
        pieces += piece
    return bytes(pieces)
