"""The events that a response comes in. Source: platform.openai.com/docs/api-reference/responses-streaming"""

from gateway.http.errors import ErrorDetail
from gateway.http.responses_api.response import OutputItem, OutputText, ReasoningText, Response, Typed


class StreamEvent(Typed, frozen=True, kw_only=True):
    sequence_number: int = 0  # its place in the stream


class Created(StreamEvent, frozen=True, tag="response.created"):
    response: Response


class InProgress(StreamEvent, frozen=True, tag="response.in_progress"):
    response: Response


class Completed(StreamEvent, frozen=True, tag="response.completed"):
    response: Response


class Incomplete(StreamEvent, frozen=True, tag="response.incomplete"):
    response: Response


class Failed(StreamEvent, frozen=True, tag="response.failed"):
    response: Response


class Error(StreamEvent, frozen=True, tag="error"):
    """The last event of a stream that fails: OpenAI's clients raise it."""

    error: ErrorDetail


class ItemAdded(StreamEvent, frozen=True, tag="response.output_item.added"):
    output_index: int
    item: OutputItem


class ItemDone(StreamEvent, frozen=True, tag="response.output_item.done"):
    output_index: int
    item: OutputItem


class _OfItem(StreamEvent, frozen=True):
    output_index: int
    item_id: str


class _OfPart(_OfItem, frozen=True, kw_only=True):
    content_index: int = 0  # an item has one part


class PartAdded(_OfPart, frozen=True, tag="response.content_part.added"):
    part: OutputText | ReasoningText


class PartDone(_OfPart, frozen=True, tag="response.content_part.done"):
    part: OutputText | ReasoningText


class TextDelta(_OfPart, frozen=True, tag="response.output_text.delta"):
    delta: str
    logprobs: tuple[str, ...] = ()


class TextDone(_OfPart, frozen=True, tag="response.output_text.done"):
    text: str
    logprobs: tuple[str, ...] = ()


class ReasoningDelta(_OfPart, frozen=True, tag="response.reasoning_text.delta"):
    delta: str


class ReasoningDone(_OfPart, frozen=True, tag="response.reasoning_text.done"):
    text: str


class ArgumentsDelta(_OfItem, frozen=True, tag="response.function_call_arguments.delta"):
    delta: str


class ArgumentsDone(_OfItem, frozen=True, tag="response.function_call_arguments.done"):
    name: str
    arguments: str


AnyEvent = (
    Created | InProgress | Completed | Incomplete | Failed | Error
    | ItemAdded | ItemDone | PartAdded | PartDone
    | TextDelta | TextDone | ReasoningDelta | ReasoningDone | ArgumentsDelta | ArgumentsDone
)  # fmt: skip
