"""The gateway's bus front, scripted: a test accepts calls and sends their pieces by hand."""

from shared import subjects
from shared.bus import Bus
from shared.ids import OwnerId
from shared.messages import AnyMessage, CallError, Generate, Message, OwnerBeat, Piece
from tests.recorder import Recorder


class FakeGateway:
    def __init__(self, bus: Bus, *, refuse: CallError | None = None) -> None:
        self.owner = OwnerId("gateway-1")
        self.calls = Recorder()
        self.cancels = Recorder()
        self.beats = Recorder()
        self._bus = bus
        self._refuse = refuse

    async def start(self) -> None:
        """On a started bus."""
        await self._bus.subscribe(subjects.CALL, self._on_call, queue=subjects.CALL_GROUP)
        await self._bus.subscribe(subjects.gateway(self.owner), self.cancels)
        await self._bus.subscribe(subjects.BEAT_CLIENT, self.beats)

    async def send(self, call: Generate, piece: Piece) -> None:
        await self._bus.publish(subjects.client(call.client), piece)

    async def beat(self) -> None:
        await self._bus.publish(subjects.BEAT_OWNER, OwnerBeat(self.owner))

    def piece(self, call: Generate, number: int, text: str = "", *token_ids: int) -> Piece:
        return Piece(call.call_id, number, self.owner, text, token_ids)

    def last_piece(self, call: Generate, number: int) -> Piece:
        return Piece(call.call_id, number, self.owner, finish_reason="stop", num_prompt_tokens=3, num_output_tokens=2)

    async def next_call(self, num_calls: int = 1, timeout_s: float = 10.0) -> Generate:
        """The call with that number, from 1."""
        call = (await self.calls.wait_for(num_calls, timeout_s))[num_calls - 1]
        assert isinstance(call, Generate)
        return call

    def _on_call(self, message: AnyMessage) -> Message | None:
        assert isinstance(message, Generate)
        self.calls(message)
        return Piece(message.call_id, 0, self.owner, error=self._refuse)
