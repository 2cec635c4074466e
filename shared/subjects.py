"""Every subject on the bus, on one page.

| subject                        | message                       | sender  | receiver                    |
|--------------------------------|-------------------------------|---------|-----------------------------|
| kottos.request.<model>         | Submit (request), Cancel      | owner   | router                      |
| kottos.worker.<worker>         | Assign, Cancel                | router  | worker                      |
| kottos.worker.<worker>         | EndAck, Resend                | owner   | worker                      |
| kottos.worker.<worker>         | LoadModel, UnloadModel        | gateway | worker                      |
|                                | (request)                     |         |                             |
| kottos.owner.<owner>           | Assigned, Refused             | router  | owner (a gateway)           |
| kottos.owner.<owner>           | Frame                         | worker  | owner                       |
| kottos.beat.worker             | WorkerBeat                    | worker  | router, owners, operators   |
| kottos.beat.owner              | OwnerBeat                     | owner   | workers, clients, operators |
| kottos.beat.router             | RouterBeat                    | router  | owners                      |
| kottos.call                    | Generate (request)            | client  | one gateway (queue group)   |
| kottos.gateway.<owner>         | CancelCall                    | client  | that gateway                |
| kottos.beat.client             | ClientBeat                    | client  | gateways                    |
| kottos.client.<client>         | Piece                         | gateway | client                      |
| kottos.catalogue               | Catalogue                     | steward | workers, gateways           |
| kottos.catalogue.ask           | AskCatalogue (request)        | anybody | steward                     |
| kottos.control.model           | AddModel, RemoveModel,        | operator| steward                     |
|                                | ChangeModel (request)         | gateway |                             |
| kottos.control.worker          | DrainWorker (request)         | gateway | steward                     |
| kottos.control.log             | SetLogLevel                   | gateway | gateways, routers, workers  |
| kottos.watch                   | Watch                         | gateway | workers                     |
| kottos.timeline                | Timeline, WorkerState         | worker  | gateways that watch         |
| kottos.event.request.finished  | RequestFinished               | gateway | anybody                     |
| kottos.event.model.switched    | ModelSwitched                 | worker  | anybody                     |
| kottos.event.worker.came       | WorkerCame                    | router  | anybody                     |
| kottos.event.worker.went       | WorkerWent                    | router  | anybody                     |

Replies to requests go to `_INBOX_<user>.>`, one prefix per bus user: Submit is answered with Accepted or Refused,
Generate with Piece number 0 (empty, or an error), LoadModel and UnloadModel with OrderTaken or OrderRefused,
AskCatalogue and what changes the catalogue in force with Catalogue or ChangeRefused.
"""

from typing import Final, NamedTuple

from shared.ids import ClientId, ModelName, OwnerId, WorkerId

ALL_REQUESTS: Final = "kottos.request.*"
BEAT_WORKER: Final = "kottos.beat.worker"
BEAT_OWNER: Final = "kottos.beat.owner"
BEAT_ROUTER: Final = "kottos.beat.router"
BEAT_CLIENT: Final = "kottos.beat.client"
CALL: Final = "kottos.call"
CALL_GROUP: Final = "gateways"
CATALOGUE: Final = "kottos.catalogue"
CATALOGUE_ASK: Final = "kottos.catalogue.ask"
CONTROL_MODEL: Final = "kottos.control.model"
CONTROL_WORKER: Final = "kottos.control.worker"
CONTROL_LOG: Final = "kottos.control.log"
WATCH: Final = "kottos.watch"
TIMELINE: Final = "kottos.timeline"
EVENTS: Final = "kottos.event.>"
EVENT_REQUEST_FINISHED: Final = "kottos.event.request.finished"
EVENT_MODEL_SWITCHED: Final = "kottos.event.model.switched"
EVENT_WORKER_CAME: Final = "kottos.event.worker.came"
EVENT_WORKER_WENT: Final = "kottos.event.worker.went"

_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def encode_token(text: str) -> str:
    """Any text as one subject token: what NATS could read as syntax becomes =XX per UTF-8 byte."""
    if not text:
        return "="
    return "".join(c if c in _PLAIN else "".join(f"={b:02X}" for b in c.encode()) for c in text)


def request(model: ModelName) -> str:
    return f"kottos.request.{encode_token(model)}"


def worker(worker_id: WorkerId) -> str:
    return f"kottos.worker.{encode_token(worker_id)}"


def owner(owner_id: OwnerId) -> str:
    return f"kottos.owner.{encode_token(owner_id)}"


def gateway(owner_id: OwnerId) -> str:
    return f"kottos.gateway.{encode_token(owner_id)}"


def client(client_id: ClientId) -> str:
    return f"kottos.client.{encode_token(client_id)}"


def inbox_prefix(user: str) -> str:
    return f"_INBOX_{user}"


class Permissions(NamedTuple):
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


# One bus user per service. Whoever answers a request may publish to that requester's inbox.
PERMISSIONS: Final[dict[str, Permissions]] = {
    "gateway": Permissions(
        publish=(
            "kottos.request.*", "kottos.worker.*", BEAT_OWNER, "kottos.client.*",
            EVENT_REQUEST_FINISHED, CATALOGUE_ASK, CONTROL_MODEL, CONTROL_WORKER, CONTROL_LOG, WATCH,
            f"{inbox_prefix('client')}.>",
        ),
        subscribe=(
            "kottos.owner.*", BEAT_WORKER, BEAT_ROUTER, CALL, "kottos.gateway.*", BEAT_CLIENT, CATALOGUE,
            EVENT_MODEL_SWITCHED, EVENT_WORKER_CAME, EVENT_WORKER_WENT, TIMELINE, CONTROL_LOG,
            f"{inbox_prefix('gateway')}.>",
        ),
    ),
    "router": Permissions(
        publish=(
            "kottos.worker.*", "kottos.owner.*", BEAT_ROUTER, EVENT_WORKER_CAME, EVENT_WORKER_WENT,
            f"{inbox_prefix('gateway')}.>",
        ),
        subscribe=(ALL_REQUESTS, BEAT_WORKER, CONTROL_LOG, f"{inbox_prefix('router')}.>"),
    ),
    "worker": Permissions(
        publish=(
            "kottos.owner.*", BEAT_WORKER, EVENT_MODEL_SWITCHED, CATALOGUE_ASK, TIMELINE,
            f"{inbox_prefix('gateway')}.>",
        ),
        subscribe=("kottos.worker.*", BEAT_OWNER, CATALOGUE, WATCH, CONTROL_LOG, f"{inbox_prefix('worker')}.>"),
    ),
    "steward": Permissions(
        publish=(CATALOGUE, *(f"{inbox_prefix(user)}.>" for user in ("gateway", "worker", "operator"))),
        subscribe=(CATALOGUE_ASK, CONTROL_MODEL, CONTROL_WORKER, f"{inbox_prefix('steward')}.>"),
    ),
    "operator": Permissions(
        publish=(CONTROL_MODEL, CONTROL_WORKER, CATALOGUE_ASK),
        subscribe=(BEAT_WORKER, BEAT_OWNER, f"{inbox_prefix('operator')}.>"),
    ),
    "client": Permissions(
        publish=(CALL, "kottos.gateway.*", BEAT_CLIENT),
        subscribe=("kottos.client.*", BEAT_OWNER, EVENTS, f"{inbox_prefix('client')}.>"),
    ),
}  # fmt: skip
