import contextlib
import typing

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ErrorCode
from shared.ids import CallId, ClientId, Incarnation, ModelName, OwnerId, RequestId, WorkerId
from shared.messages import (
    AnyMessage,
    Assign,
    CallError,
    ChatMessage,
    Ended,
    Frame,
    Generate,
    GenerationParams,
    Message,
    ModelLoad,
    Piece,
    Sampling,
    SequenceTokens,
    Submit,
    WorkerBeat,
    decode,
    encode,
)

REQUEST, OWNER, MODEL = RequestId("request-1"), OwnerId("gateway-1"), ModelName("gemma/3 270m")
SUBMIT = Submit(
    request_id=REQUEST,
    attempt=1,
    owner=OWNER,
    model=MODEL,
    prompt=(1, 2, 262143),
    sampling=Sampling(max_tokens=8, seed=2**64 - 1, temperature=0.7, stop_token_ids=(1, 106)),
    output=(5,),
    age_s=0.25,
)
FRAME = Frame(
    worker=WorkerId("worker-0"),
    incarnation=Incarnation("life-1"),
    number=7,
    sequences=(
        SequenceTokens(REQUEST, 1, 1, (9, 10)),
        SequenceTokens(RequestId("request-2"), 0, 0, (), Ended("error", ErrorCode.INTERNAL, "out of luck")),
    ),
)
BEAT = WorkerBeat(
    worker=WorkerId("worker-0"),
    incarnation=Incarnation("life-1"),
    number=3,
    models=(ModelLoad(MODEL, "resident", num_running=2),),
    router=None,
    last_assignment=0,
    kv_used_bytes=1 << 40,
    kv_total_bytes=1 << 41,
    last_frames={OWNER: 7},
)
CALL = Generate(
    call_id=CallId("call-1"),
    client=ClientId("client-1"),
    model=MODEL,
    params=GenerationParams(max_tokens=4, stop=["\n", "ß"]),
    chat=(ChatMessage("user", "hällo 🦊"),),
)
PIECE = Piece(CallId("call-1"), 2, OWNER, error=CallError(ErrorCode.OVERLOADED, "later", retry_after_s=1.5))


@pytest.mark.parametrize(
    "message", [SUBMIT, Assign(SUBMIT, Incarnation("r"), 12), FRAME, BEAT, CALL, PIECE], ids=lambda m: type(m).__name__
)
def test_a_message_comes_back_equal(message: Message) -> None:
    assert decode(encode(message)) == message


def test_every_message_type_can_be_decoded() -> None:
    assert set(Message.__subclasses__()) == set(typing.get_args(AnyMessage))


def test_messages_are_immutable() -> None:
    with pytest.raises(AttributeError):
        SUBMIT.attempt = 2  # type: ignore[misc]


def test_a_newer_sender_may_append_fields() -> None:
    fields = msgspec.msgpack.decode(encode(PIECE))
    assert decode(msgspec.msgpack.encode([*fields, "from a later version"])) == PIECE


def test_an_older_sender_may_lack_fields_that_have_defaults() -> None:
    fields = msgspec.msgpack.decode(encode(BEAT))
    assert decode(msgspec.msgpack.encode(fields[:-1])) == BEAT


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"hello",
        encode(SUBMIT)[:-1],
        msgspec.msgpack.encode(["Nonsense", 1]),
        msgspec.msgpack.encode(["OwnerBeat"]),
        msgspec.msgpack.encode(["OwnerBeat", 17]),
        b"\x92\xa9OwnerBeat\xa1\xff",  # an id that is not UTF-8
    ],
)
def test_anything_else_is_a_decode_error(payload: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(payload)


@given(payload=st.binary(max_size=200), cut=st.integers(0, 100), valid=st.sampled_from([SUBMIT, FRAME, BEAT, CALL]))
def test_no_bytes_raise_anything_but_a_decode_error(payload: bytes, cut: int, valid: Message) -> None:
    for candidate in (payload, encode(valid)[:cut] + payload):
        with contextlib.suppress(msgspec.DecodeError):
            decode(candidate)
