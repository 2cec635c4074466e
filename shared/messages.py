"""Every message on the bus, on one page: frozen tagged structs, msgpack, decoded once at the border.

Structs are arrays on the wire, so field order is the format: new fields have defaults and go last.
Durations travel, instants never do (clocks of two processes don't agree).

    owner --Submit, Cancel--> router --Assign, Cancel--> worker --Frame--> owner --EndAck, Resend--> worker
    client --Generate, CancelCall--> gateway --Piece--> client
"""

from typing import Annotated, Final, Literal, Union

import msgspec

from shared.config import LogLevel
from shared.errors import ErrorCode
from shared.ids import CallId, ClientId, Incarnation, ModelName, OwnerId, RequestId, WorkerId
from shared.levels import LevelChange, LevelKey
from shared.slo import Slo
from shared.structured import ResponseFormat, StructuredOutputs


class Part(msgspec.Struct, frozen=True, array_like=True):
    """A piece of a message."""


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Anything that travels alone."""


# --- a request's life ---------------------------------------------------------------------------


class Sampling(Part, frozen=True):
    """How tokens are chosen and when to stop, complete and validated: nothing is defaulted later."""

    max_tokens: int
    seed: int  # uint64; drawn at the gateway if the client gave none, and kept by every attempt
    temperature: float = 1.0  # 0: greedy
    top_p: float = 1.0
    top_k: int = 0  # 0: all
    min_p: float = 0.0
    presence_penalty: float = 0.0  # over output tokens
    frequency_penalty: float = 0.0  # over output tokens
    repetition_penalty: float = 1.0  # over prompt and output tokens
    min_tokens: int = 0  # until then no stop token can be chosen
    stop_token_ids: tuple[int, ...] = ()  # the model's end tokens are among them unless ignore_eos
    choice_index: int = 0
    logit_bias: tuple[tuple[int, float], ...] = ()  # (token id, what is added to its logit)
    num_logprobs: int | None = None  # of each output token, and of so many of the most likely ones in its place
    num_prompt_logprobs: int | None = None  # the same for the tokens of the prompt; None: not wanted
    grammar: str = ""  # llguidance's, which the output has to match


class Submit(Message, frozen=True):
    """Owner to router: run this sequence. `output` is not empty when an earlier attempt got so far."""

    request_id: RequestId
    attempt: int  # from 0; frames of an older attempt are dropped by the owner
    owner: OwnerId
    model: ModelName
    prompt: tuple[int, ...]  # token ids
    sampling: Sampling
    output: tuple[int, ...] = ()  # token ids that the client has already got
    age_s: float = 0.0  # since the client's request arrived
    priority: int = 0  # lower is served first
    cache_salt: str = ""  # KV is shared between requests of equal salt only
    slo: Slo = Slo()
    tenant: str = ""  # who pays: tenants of a model get equal shares of it
    traceparent: str = ""  # the span that this attempt belongs to, where it is traced


class Accepted(Message, frozen=True):
    """Router to owner, in reply to Submit: queued or assigned; an `Assigned` or `Refused` follows."""

    request_id: RequestId
    attempt: int
    router: Incarnation


class Assigned(Message, frozen=True):
    """Router to owner: this worker has it now."""

    request_id: RequestId
    attempt: int
    worker: WorkerId
    incarnation: Incarnation


class Refused(Message, frozen=True):
    """Router to owner (as reply or later): it will not run."""

    request_id: RequestId
    attempt: int
    code: ErrorCode
    message: str
    retry_after_s: float | None = None


class Assign(Message, frozen=True):
    """Router to worker. A router's numbers rise over all its workers; a worker's beat echoes the last it saw."""

    submit: Submit
    router: Incarnation
    number: int


class Cancel(Message, frozen=True):
    """Owner to router, and on to the worker: on the same road as Submit, so it can't overtake it."""

    request_id: RequestId
    attempt: int
    owner: OwnerId
    model: ModelName
    worker: WorkerId | None = None  # as far as the owner knows


class Ended(Part, frozen=True):
    """The end of a sequence, with its timings as the worker saw them."""

    reason: Literal["stop", "length", "cancelled", "error"]
    code: ErrorCode | None = None  # with "error"
    message: str = ""
    queue_s: float = 0.0  # from assignment to its first step
    prefill_s: float = 0.0  # from its first step to its first token
    decode_s: float = 0.0  # from its first to its last token
    num_cached_tokens: int = 0
    num_preemptions: int = 0
    num_swaps: int = 0  # preemptions that moved its KV to host memory, instead of computing it again


class TokenLogprobs(Part, frozen=True, gc=False):
    """A token by its model's own probabilities, before bias, penalties and temperature. Natural logarithms."""

    token_id: int
    logprob: float
    top_ids: tuple[int, ...] = ()  # the most likely tokens in its place, the first one first; it may be among them
    top_logprobs: tuple[float, ...] = ()  # theirs


class PromptLogprobs(Part, frozen=True):
    """Of a prompt. Its first token has no probability: entry k is of token k + 1."""

    first: int  # entries[first : first + len(tokens)] = tokens
    tokens: tuple[TokenLogprobs, ...]


class SequenceTokens(Part, frozen=True):
    """What one step added to one sequence."""

    request_id: RequestId
    attempt: int
    first: int  # output[first : first + len(token_ids)] = token_ids
    token_ids: tuple[int, ...]
    ended: Ended | None = None
    num_cached_tokens: int | None = None  # of the prompt; with the first tokens of an attempt, and with tokens resent
    logprobs: tuple[TokenLogprobs, ...] = ()  # one per token id, where they are asked for
    prompt_logprobs: PromptLogprobs | None = None  # all of them come no later than the first token


class Frame(Message, frozen=True):
    """Worker to owner: one per decode step and owner, numbered from 1 per (incarnation, owner)."""

    worker: WorkerId
    incarnation: Incarnation
    number: int
    sequences: tuple[SequenceTokens, ...]


class EndAck(Message, frozen=True):
    """Owner to worker: the ends of these sequences arrived, their tokens may be forgotten."""

    owner: OwnerId
    request_ids: tuple[RequestId, ...]


class Resend(Message, frozen=True):
    """Owner to worker, after a gap in the frame numbers: say output[first:] again."""

    owner: OwnerId
    request_id: RequestId
    attempt: int
    first: int
    first_prompt_logprob: int = 0


# --- beats --------------------------------------------------------------------------------------


class ModelLoad(Part, frozen=True):
    """One model on one worker."""

    model: ModelName
    state: Literal["resident", "cached", "loading", "failed", "leaving"]  # leaving: it finishes what it has
    num_running: int = 0  # sequences with KV on the device
    num_waiting: int = 0
    max_sequence_tokens: int = 0  # what fits: context length or KV memory, whichever is less; 0: not known yet
    reason: str = ""  # with "failed"; else why an operator's load failed
    progress: float | None = None  # share done, while it is imported or its weights are read from disk
    step_s: float = 0.0  # expected of a step that decodes all that runs, or one sequence; 0: not known yet


class WorkerBeat(Message, frozen=True):
    """Worker to routers and owners, twice a second."""

    worker: WorkerId
    incarnation: Incarnation
    number: int
    models: tuple[ModelLoad, ...]
    router: Incarnation | None  # whose assignment was seen last,
    last_assignment: int  # and its number
    kv_used_bytes: int
    kv_total_bytes: int
    last_frames: dict[OwnerId, int]  # number of the newest frame per owner
    draining: bool = False
    metrics_address: str = ""  # host:port; empty: its metrics can't be read


class OwnerBeat(Message, frozen=True):
    """Owner to workers, clients and operators, once a second; a worker frees the sequences of one that missed 5."""

    owner: OwnerId
    models: tuple[ModelName, ...] = ()  # that it takes requests for


class RouterBeat(Message, frozen=True):
    """Router to owners, once a second; a new incarnation makes them resend what is not assigned."""

    router: Incarnation
    metrics_address: str = ""  # host:port; empty: its metrics can't be read


# --- the gateway's second front -----------------------------------------------------------------


class ToolCall(Part, frozen=True):
    """A function that a model wants called."""

    id: str
    name: str
    arguments: str  # JSON, as the model wrote it


class ToolCallPiece(Part, frozen=True):
    """What a tool call grew by. Its first piece has id and name, all pieces' arguments together are its arguments."""

    index: int  # of the call in its answer
    arguments: str = ""
    id: str = ""
    name: str = ""


class ChatMessage(Part, frozen=True):
    role: str
    content: str  # may be empty
    tool_calls: tuple[ToolCall, ...] = ()  # of an assistant
    tool_call_id: str | None = None  # of a tool: the call that this is the result of
    name: str | None = None
    reasoning: str | None = None  # of an assistant


class Tool(Part, frozen=True):
    """A function that a model may call."""

    name: str
    description: str | None = None
    parameters: str = '{"type":"object","properties":{}}'  # JSON schema of an object


class ChatOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a chat is rendered and what its answer may call, by OpenAI's and vLLM's names."""

    tools: tuple[Tool, ...] = ()
    tool_choice: Literal["none", "auto", "required", "named"] = "auto"
    tool_name: str = ""  # with "named": the tool that has to be called
    parallel_tool_calls: bool = True  # False: one call at most
    template_kwargs: str = "{}"  # JSON object: variables for the chat template
    add_generation_prompt: bool = True
    continue_final_message: bool = False  # the answer goes on where the last message ends


class GenerationParams(msgspec.Struct, frozen=True, kw_only=True):
    """What a client may ask for, by OpenAI's and vLLM's names; None means the default."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    ignore_eos: bool | None = None
    min_tokens: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    ttft_s: float | None = None  # the first token is due then, counted from the request's arrival,
    tbt_s: float | None = None  # and each further one so much later
    priority: int | None = None  # lower is served first
    n: int | None = None  # choices for each prompt
    logprobs: int | None = None  # of each token of the output, and of so many of the most likely ones in its place
    prompt_logprobs: int | None = None  # the same for the prompt; with it max_tokens may be 0
    logit_bias: dict[int, float] | None = None  # by token id
    stop_token_ids: list[int] | None = None  # besides the model's own
    include_stop_str_in_output: bool | None = None
    timeout_s: float | None = None  # from the request's arrival to the end of its answer; then it ends with an error
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None


class Generate(Message, frozen=True):
    """Client to any one gateway. Exactly one of text, token_ids, chat is given."""

    call_id: CallId
    client: ClientId
    model: ModelName
    params: GenerationParams
    text: str | None = None
    token_ids: tuple[int, ...] | None = None
    chat: tuple[ChatMessage, ...] | None = None
    chat_options: ChatOptions = ChatOptions()
    traceparent: str = ""  # the span of the client that this call belongs to (W3C Trace Context); empty: none


class CallError(Part, frozen=True):
    code: ErrorCode
    message: str
    retry_after_s: float | None = None


class Piece(Message, frozen=True):
    """Gateway to client, numbered per call: 0 replies to Generate. The last of each choice has a finish_reason; an
    error ends the call."""

    call_id: CallId
    number: int
    gateway: OwnerId
    text: str = ""
    token_ids: tuple[int, ...] = ()
    finish_reason: Literal["stop", "length", "tool_calls"] | None = None
    num_prompt_tokens: int = 0  # with finish_reason
    num_output_tokens: int = 0  # with finish_reason, of all choices so far
    error: CallError | None = None
    reasoning: str = ""  # of a chat, as text and tool_calls are
    tool_calls: tuple[ToolCallPiece, ...] = ()
    choice: int = 0  # of `n`
    logprobs: tuple[TokenLogprobs, ...] = ()  # of the tokens whose text is out, one after the other
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()  # from the second token on, before the first of the output

    @property
    def is_empty(self) -> bool:
        said = self.text, self.token_ids, self.finish_reason, self.reasoning, self.tool_calls
        return not any((*said, self.logprobs, self.prompt_logprobs))


class CancelCall(Message, frozen=True):
    """Client to the gateway that serves the call: its reader left."""

    call_id: CallId
    client: ClientId


class ClientBeat(Message, frozen=True):
    """Client to gateways, once a second while calls run; calls of a client that missed 5 are cancelled."""

    client: ClientId


# --- which models are served --------------------------------------------------------------------


class CatalogueModel(Part, frozen=True):
    name: ModelName
    path: str  # a folder, a GGUF file or a hub id, on every host that imports it
    fingerprint: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]  # of its content: its folder in the cache
    level: LevelChange = LevelChange()  # where its service level differs from the configured one
    pinned: bool = False  # its weights stay on devices, unless another model would have no place


class Catalogue(Message, frozen=True):
    """Steward to workers and gateways, once a second and at each change: what is served from now on, and how."""

    steward: Incarnation
    number: int  # greater than that of what it replaces
    models: tuple[CatalogueModel, ...]
    drained: tuple[WorkerId, ...] = ()  # they take no new work


class AskCatalogue(Message, frozen=True):
    """To the steward, who replies with the Catalogue."""


class AddModel(Message, frozen=True):
    """Operator to steward: serve this as well. Replied with the Catalogue that has it, or ChangeRefused."""

    model: CatalogueModel


class RemoveModel(Message, frozen=True):
    """Operator to steward: no new requests of this model. Replied with the Catalogue without it, or ChangeRefused."""

    name: ModelName


class ChangeModel(Message, frozen=True):
    """Operator to steward: serve it otherwise. What is None stays. Replied with the Catalogue, or ChangeRefused."""

    name: ModelName
    level: LevelChange = LevelChange()
    cleared: tuple[LevelKey, ...] = ()  # as configured again
    pinned: bool | None = None


class DrainWorker(Message, frozen=True):
    """Operator to steward: this worker takes no new work, or takes it again. Replied with the Catalogue, or
    ChangeRefused."""

    worker: WorkerId
    drained: bool


class SetLogLevel(Message, frozen=True):
    """Gateway to gateways, routers and workers: what loggers say from now on, until they are started again."""

    logger: str  # and those below it; empty: all that have no level of their own
    level: LogLevel | None  # None: as it was at the start
    service: str = ""  # gateway, router, worker, or the id of one; empty: all


class ChangeRefused(Message, frozen=True):
    reason: str


class LoadModel(Message, frozen=True):
    """Gateway to worker: have its weights at hand. Replied with OrderTaken, at once, or OrderRefused."""

    model: ModelName


class UnloadModel(Message, frozen=True):
    """Gateway to worker: free the memory of its weights as soon as nobody uses it. Replied as LoadModel is."""

    model: ModelName


class OrderTaken(Message, frozen=True):
    worker: WorkerId


class OrderRefused(Message, frozen=True):
    worker: WorkerId
    reason: str


# --- what workers do, for whoever watches -------------------------------------------------------

SwitchKind = Literal["resident", "prefetched", "streamed", "copied", "from disk"]


class Watch(Message, frozen=True):
    """Gateway to workers, once a second while somebody watches there; it lapses after 3 s."""


class SwitchTold(Part, frozen=True):
    kind: SwitchKind
    waited_s: float  # as in ModelSwitched
    copied_bytes: int


class StepTold(Part, frozen=True, gc=False):
    offset_s: float  # from its turn's beginning to its own
    duration_s: float  # from the token loop and back to it
    num_prefill_tokens: int
    num_decode_tokens: int
    num_drawn_tokens: int  # of output: by decodes, and by prompts that are complete with it


class TurnTold(Part, frozen=True):
    """Steps of one model in a row."""

    model: ModelName
    age_s: float  # since the first of these steps began
    switch: SwitchTold | None  # right before it; None: there was none, or the turn goes on
    steps: tuple[StepTold, ...]


class Timeline(Message, frozen=True):
    """Worker to gateways that watch, ten times a second at most: all steps since the last one."""

    worker: WorkerId
    incarnation: Incarnation
    turns: tuple[TurnTold, ...]  # in order


class WorkerState(Message, frozen=True):
    """Worker to gateways that watch, twice a second: what beats don't tell."""

    worker: WorkerId
    incarnation: Incarnation
    policy: str
    device_total_bytes: int  # for weights
    device_models: dict[ModelName, int]  # bytes of those that are resident
    host_total_bytes: int  # of the host model cache
    host_models: dict[ModelName, int]  # bytes of those that this worker maps
    prefilling: tuple[RequestId, ...] = ()  # with KV on the device and without output


# --- events, for whoever subscribes -------------------------------------------------------------


FinishReason = Literal["stop", "length", "tool_calls", "cancelled", "error"]


class RequestFinished(Message, frozen=True):
    """One client request ended, well or not."""

    request_id: RequestId
    model: ModelName
    finish_reason: FinishReason
    num_prompt_tokens: int
    num_output_tokens: int
    ttft_s: float | None  # from arrival to the first token at the gateway
    total_s: float
    gateway: OwnerId
    worker: WorkerId | None = None
    num_cached_tokens: int = 0  # of the prompt
    num_due_tokens: int = 0  # written, or overdue at an end without them
    num_on_time_tokens: int = 0  # of these
    tenant: str = ""  # id of the API key


class ModelSwitched(Message, frozen=True):
    """A worker's device left one model and continues another."""

    worker: WorkerId
    model: ModelName
    previous: ModelName | None
    kind: SwitchKind
    copied_bytes: int
    waited_s: float  # until the first operation may run: from the decision; from disk, from when it could have run
    overlapped_s: float = 0.0  # of the copy: beside steps, of other models or, streamed, its own


class WorkerCame(Message, frozen=True):
    worker: WorkerId
    incarnation: Incarnation


class WorkerWent(Message, frozen=True):
    worker: WorkerId
    incarnation: Incarnation
    reason: str


AnyMessage = Union[
    Submit, Accepted, Assigned, Refused, Assign, Cancel, Frame, EndAck, Resend,
    WorkerBeat, OwnerBeat, RouterBeat,
    Generate, Piece, CancelCall, ClientBeat,
    Catalogue, AskCatalogue, AddModel, RemoveModel, ChangeModel, DrainWorker, ChangeRefused, SetLogLevel,
    LoadModel, UnloadModel, OrderTaken, OrderRefused,
    Watch, Timeline, WorkerState,
    RequestFinished, ModelSwitched, WorkerCame, WorkerWent,
]  # fmt: skip

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(AnyMessage)


def encode(message: Message) -> bytes:
    return _encoder.encode(message)


def decode(payload: bytes) -> AnyMessage:
    """Raises msgspec.DecodeError (or its subclass ValidationError) on anything that is not one of ours."""
    try:
        return _decoder.decode(payload)
    except UnicodeDecodeError as error:  # msgspec lets it through
        raise msgspec.DecodeError("a string is not UTF-8") from error
