"""Errors of more than one service.

KottosError
├── ConfigError            a key, value or sum that refuses to start
├── RequestError           the client's fault or ours to explain: carries an ErrorCode
├── ModelError             a model that can't be imported or read, with the reason
├── GrammarError           a grammar that can't be compiled, with the reason
└── BusError
    ├── BusUnavailable     not connected, or the server rejects us
    ├── NoResponders       nobody subscribes to the subject of a request
    ├── RequestTimeout     somebody does, and did not answer in time
    ├── MessageTooLarge    refused before sending: it would end the connection
    └── SubjectTooLong     the same, for the sake of an id in it
"""

from enum import StrEnum


class ErrorCode(StrEnum):
    """Why a request was refused or ended; the gateway's table maps each to an HTTP status."""

    INVALID_REQUEST = "invalid_request"
    CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
    NO_CHAT_TEMPLATE = "no_chat_template"
    MODEL_NOT_FOUND = "model_not_found"
    BODY_TOO_LARGE = "body_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    CLIENT_TOO_SLOW = "client_too_slow"  # in sending a body or reading a stream
    INVALID_API_KEY = "invalid_api_key"
    PERMISSION_DENIED = "permission_denied"
    CONFLICT = "conflict"  # with how things are now: 409
    RATE_LIMITED = "rate_limit_exceeded"  # of the API key: 429
    OVERLOADED = "overloaded"  # queues are full: 429
    TIMED_OUT = "timed_out"  # its own limit has passed: 504
    UNAVAILABLE = "unavailable"  # no router, worker or bus right now: 503
    CANCELLED = "cancelled"
    INTERNAL = "internal_error"


class KottosError(Exception):
    """Root of all errors that we raise on purpose."""


class ConfigError(KottosError):
    """The configuration refuses to start; the message names the key to change."""


class ModelError(KottosError):
    """A model can't be imported, read or run; the message says why."""


class GrammarError(KottosError):
    """A grammar can't be compiled, or not for this model's tokenizer; the message says why, for the client."""


class RequestError(KottosError):
    """A request ends here, and its client hears why."""

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param  # the field of the request that is at fault
        self.retry_after_s = retry_after_s


class BusError(KottosError):
    """The message bus did not do what was asked."""


class BusUnavailable(BusError):
    """Not connected, or the server rejects us."""


class NoResponders(BusError):
    """Nobody subscribes to the subject of a request."""


class RequestTimeout(BusError):
    """A responder exists and did not answer in time."""


class SubjectTooLong(BusError):
    """Refused before sending, because the server would end the connection."""


class MessageTooLarge(BusError):
    """Refused before sending, because the server would end the connection."""

    def __init__(self, num_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"message of {num_bytes} bytes exceeds the bus limit of {limit_bytes} bytes")
        self.num_bytes = num_bytes
        self.limit_bytes = limit_bytes
