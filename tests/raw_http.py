"""HTTP by hand, for what no client library would send, and for readers that don't read."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

JSON: Final = {"Content-Type": "application/json"}


def head(path: str, headers: Mapping[str, str] = JSON, method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: test", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def post(path: str, body: bytes, headers: Mapping[str, str] = JSON) -> bytes:
    return head(path, {**headers, "Content-Length": str(len(body))}) + body


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> Answer:
        """The next one, with the body that its length says."""
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)
        }
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(lines[0].split()[1]), headers, body)

    async def rest(self) -> bytes:
        """Up to the end of the connection, whether it is closed or cut."""
        data = b""
        try:
            while piece := await self.reader.read(1 << 20):
                data += piece
        except ConnectionError:
            pass
        return data


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[Connection]:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()


def connect_lazily(url: str, receive_bytes: int = 4096) -> socket.socket:
    """A socket whose owner reads when it likes, and for which the kernel takes little meanwhile."""
    parts = urlsplit(url)
    lazy = socket.socket()
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)  # before it connects, or the window is larger
    lazy.connect((parts.hostname, parts.port))
    return lazy


async def read_all(lazy: socket.socket, timeout_s: float = 10.0) -> bytes:
    """All that is there, and comes, up to the end."""
    lazy.setblocking(False)
    loop = asyncio.get_running_loop()
    data = b""
    async with asyncio.timeout(timeout_s):
        try:
            while piece := await loop.sock_recv(lazy, 1 << 20):
                data += piece
        except ConnectionError:
            pass
    return data
