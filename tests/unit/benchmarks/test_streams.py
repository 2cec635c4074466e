from benchmarks.streams.client import Job, Read, StreamReader

JOB = Job("host", 1, 1, b"GET", b" the", True, "report")
EVENT = b'data: {"id":"cmpl-1","choices":[{"text":" the"}]}\n\n'
JOINED = b'data: {"id":"cmpl-1","choices":[{"text":" the the"}]}\n\n'
DONE = b"data: [DONE]\n\n"
HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class Transport:
    """What a reader does with its connection."""

    def __init__(self) -> None:
        self.written = b""
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.is_closed = True


def read(*pieces: bytes) -> tuple[Read, Transport]:
    transport = Transport()
    reader = StreamReader(JOB, lambda: None)
    reader.connection_made(transport)  # type: ignore[arg-type]
    for piece in pieces:
        reader.data_received(piece)
    return reader.read(), transport


def test_tokens_count_once_wherever_the_bytes_are_cut() -> None:
    data = HEAD + EVENT + JOINED + EVENT + DONE
    for cut in range(len(HEAD), len(data)):
        seen, transport = read(data[:cut], data[cut:])
        assert (len(seen.token_at_s), seen.num_events, seen.call_id) == (4, 3, "cmpl-1")
        assert seen.is_whole and transport.is_closed
        assert transport.written == JOB.request


def test_a_stream_that_is_not_whole() -> None:
    seen, transport = read(HEAD + EVENT)
    assert not seen.is_whole and not transport.is_closed
    seen, _ = read(HEAD + EVENT, b'data: {"error":{"message":"no"}}\n\n' + DONE)
    assert not seen.is_whole and "no" in seen.refusal


def test_an_answer_that_is_no_stream() -> None:
    seen, transport = read(b'HTTP/1.1 429 Too Many Requests\r\n\r\n{"error":{}}')
    assert "429" in seen.refusal and transport.is_closed
