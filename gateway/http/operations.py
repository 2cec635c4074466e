"""Every operation of the HTTP API, for its description."""

from typing import Final

from gateway.fleet.fleet_news import News
from gateway.http.admin.feed_objects import FeedEvent
from gateway.http.admin.fleet import AdminRequestList, AdminWorkerList, DrainChange
from gateway.http.admin.log_level import LogLevelChange
from gateway.http.admin.models import AdminModel, AdminModelList, Deleted, ModelPatch, NewModel
from gateway.http.anthropic.request import CountTokensRequest, MessagesRequest
from gateway.http.anthropic.response import Message, TokenCount
from gateway.http.anthropic.response import StreamEvent as MessageEvent
from gateway.http.dashboard import ASSET_TYPES
from gateway.http.errors import ErrorBody
from gateway.http.metrics import Target
from gateway.http.openai.chat import ChatRequest
from gateway.http.openai.chat_response import ChatChoice, ChatChunkChoice
from gateway.http.openai.completion_response import TextChoice
from gateway.http.openai.completions import CompletionRequest
from gateway.http.openai.embeddings import EmbeddingsRequest
from gateway.http.openai.response import Response as Completion
from gateway.http.openapi import Operation
from gateway.http.responses_api.events import AnyEvent
from gateway.http.responses_api.request import ResponsesRequest
from gateway.http.responses_api.response import Response
from gateway.http.status import Health, ModelList, ModelObject
from gateway.http.tokenize import DetokenizeRequest, DetokenizeResponse, TokenizeRequest, TokenizeResponse, Version

GENERATE: Final = "Generation"
TOKENS: Final = "Tokens"
MODELS: Final = "Models"
OPERATION: Final = "Operation"
ADMIN: Final = "Administration"
_TEXT: Final = {"text/plain": {"schema": {"type": "string"}}}

OPERATIONS: Final = (
    Operation(
        method="post",
        path="/v1/chat/completions",
        summary="OpenAI's chat.",
        tag=GENERATE,
        request=ChatRequest,
        response=Completion[ChatChoice],
        events=Completion[ChatChunkChoice],
    ),
    Operation(
        method="post",
        path="/v1/completions",
        summary="OpenAI's text completion.",
        tag=GENERATE,
        request=CompletionRequest,
        response=Completion[TextChoice],
        events=Completion[TextChoice],
    ),
    Operation(
        method="post",
        path="/v1/responses",
        summary="OpenAI's responses, without state.",
        tag=GENERATE,
        request=ResponsesRequest,
        response=Response,
        events=AnyEvent,
    ),
    Operation(
        method="post",
        path="/v1/messages",
        summary="Anthropic's messages.",
        tag=GENERATE,
        request=MessagesRequest,
        response=Message,
        events=MessageEvent,
        is_anthropic=True,
    ),
    Operation(
        method="post",
        path="/v1/messages/count_tokens",
        summary="The prompt tokens that a message would have.",
        tag=TOKENS,
        request=CountTokensRequest,
        response=TokenCount,
        is_anthropic=True,
    ),
    Operation(
        method="post",
        path="/v1/embeddings",
        summary="Refused, with the reason.",
        tag=GENERATE,
        request=EmbeddingsRequest,
    ),
    Operation(
        method="post",
        path="/tokenize",
        summary="The token ids of a prompt or of messages.",
        tag=TOKENS,
        request=TokenizeRequest,
        response=TokenizeResponse,
    ),
    Operation(
        method="post",
        path="/detokenize",
        summary="The text of token ids.",
        tag=TOKENS,
        request=DetokenizeRequest,
        response=DetokenizeResponse,
    ),
    Operation(method="get", path="/v1/models", summary="All models.", tag=MODELS, response=ModelList),
    Operation(method="get", path="/v1/models/{model}", summary="One model.", tag=MODELS, response=ModelObject),
    Operation(method="get", path="/health", summary="Whether the gateway lives.", tag=OPERATION, response=Health),
    Operation(
        method="get",
        path="/ready",
        summary="Whether a request would be served.",
        tag=OPERATION,
        response=Health,
        more={503: Health},
    ),
    Operation(method="get", path="/version", summary="The version.", tag=OPERATION, response=Version),
    Operation(method="get", path="/metrics", summary="Prometheus' metrics.", tag=OPERATION, content=_TEXT),
    Operation(method="get", path="/metrics/targets", summary="Where to scrape.", tag=OPERATION, response=list[Target]),
    Operation(
        method="get",
        path="/openapi.json",
        summary="This description.",
        tag=OPERATION,
        content={"application/json": {"schema": {"type": "object"}}},
    ),
    Operation(
        method="get",
        path="/docs",
        summary="This description as a page.",
        tag=OPERATION,
        content={"text/html": {"schema": {"type": "string"}}},
    ),
    Operation(
        method="get",
        path="/",
        summary="The dashboard: what runs where, and a playground.",
        tag=OPERATION,
        content={"text/html": {"schema": {"type": "string"}}},
    ),
    Operation(
        method="get",
        path="/dashboard/{file}",
        summary="What the dashboard loads.",
        tag=OPERATION,
        content={kind: {"schema": {"type": "string"}} for kind in ASSET_TYPES.values()},
    ),
    Operation(
        method="get", path="/admin/models", summary="How all models are served.", tag=ADMIN, response=AdminModelList
    ),
    Operation(
        method="post",
        path="/admin/models",
        summary="Serve a further model.",
        tag=ADMIN,
        request=NewModel,
        response=AdminModel,
        status=202,
    ),
    Operation(method="get", path="/admin/models/{model}", summary="How it is served.", tag=ADMIN, response=AdminModel),
    Operation(
        method="patch",
        path="/admin/models/{model}",
        summary="Change its service level.",
        tag=ADMIN,
        request=ModelPatch,
        response=AdminModel,
    ),
    Operation(method="delete", path="/admin/models/{model}", summary="Serve it no more.", tag=ADMIN, response=Deleted),
    Operation(
        method="post", path="/admin/models/{model}/pin", summary="Keep its weights.", tag=ADMIN, response=AdminModel
    ),
    Operation(
        method="post",
        path="/admin/models/{model}/unpin",
        summary="Let its weights go like others.",
        tag=ADMIN,
        response=AdminModel,
    ),
    Operation(
        method="post",
        path="/admin/models/{model}/load",
        summary="Bring its weights to where they can run at once.",
        tag=ADMIN,
        response=AdminModel,
        status=202,
        query=("worker",),
        more={409: ErrorBody},
    ),
    Operation(
        method="post",
        path="/admin/models/{model}/unload",
        summary="Free the memory of its weights until it is asked for again.",
        tag=ADMIN,
        response=AdminModel,
        status=202,
        query=("worker",),
        more={409: ErrorBody},
    ),
    Operation(method="get", path="/admin/workers", summary="All workers.", tag=ADMIN, response=AdminWorkerList),
    Operation(
        method="post",
        path="/admin/workers/{worker}/drain",
        summary="Give it no new work.",
        tag=ADMIN,
        response=DrainChange,
    ),
    Operation(
        method="post",
        path="/admin/workers/{worker}/resume",
        summary="Give it work again.",
        tag=ADMIN,
        response=DrainChange,
    ),
    Operation(method="get", path="/admin/requests", summary="What is in flight.", tag=ADMIN, response=AdminRequestList),
    Operation(
        method="put",
        path="/admin/log-level",
        summary="What services log, until they are started again.",
        tag=ADMIN,
        request=LogLevelChange,
        response=LogLevelChange,
    ),
    Operation(
        method="get",
        path="/admin/feed",
        summary="The fleet live: states, requests, turns and their steps.",
        tag=ADMIN,
        events=FeedEvent,
    ),
    Operation(
        method="get",
        path="/admin/events",
        summary="What happens, as it happens.",
        tag=ADMIN,
        events=News,
    ),
)
