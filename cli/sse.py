"""Server-sent events (WHATWG HTML, section 9.2) out of bytes that are cut anywhere."""

from typing import Final, NamedTuple

MAX_EVENT_BYTES: Final = 16 << 20


class ServerEvent(NamedTuple):
    """Data, or a comment."""

    data: bytes = b""
    comment: str = ""


class EventReader:
    """Names and ids of events are ignored, as nothing here uses them."""

    def __init__(self) -> None:
        self._rest = b""  # of the last line
        self._data: list[bytes] = []  # of the event that is not at its end yet

    def feed(self, received: bytes) -> list[ServerEvent]:
        """What is complete now. Raises ValueError for an event beyond all measure."""
        *lines, self._rest = (self._rest + received).split(b"\n")
        if len(self._rest) + sum(map(len, self._data)) > MAX_EVENT_BYTES:
            raise ValueError(f"an event of more than {MAX_EVENT_BYTES} bytes")
        events = []
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b":"):
                events.append(ServerEvent(comment=line[1:].strip().decode(errors="replace")))
            elif line.startswith(b"data:"):
                self._data.append(line[len(b"data:") :].removeprefix(b" "))
            elif not line and self._data:
                events.append(ServerEvent(data=b"\n".join(self._data)))
                self._data = []
        return events
