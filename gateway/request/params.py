"""What a client asked for, checked and completed into a Sampling."""

import math
import secrets
from typing import Final, TypeVar

from shared.errors import ErrorCode, RequestError
from shared.levels import LevelChange, changed
from shared.messages import GenerationParams, Sampling
from shared.slo import MAX_PRIORITY, MAX_TBT_S, MAX_TIMEOUT_S, MAX_TTFT_S, MIN_S, ServiceLevel

MAX_STOPS: Final = 16
MAX_STOP_CHARS: Final = 256
MAX_STOP_TOKENS: Final = 128
MAX_BIASED_TOKENS: Final = 1024
MAX_BIAS: Final = 100.0
MAX_CHOICES: Final = 64  # of one request: prompts times n
MAX_LOGPROBS: Final = 20  # of the most likely tokens in one place
MAX_PROMPT_LOGPROBS: Final = 1 << 17  # of one request: its prompts' tokens, and those named in the place of each
COMPLETION_MAX_TOKENS: Final = 16  # OpenAI's default of /v1/completions
_INT64: Final = (-(2**63), 2**63 - 1)

_T = TypeVar("_T", int, float)


def invalid(message: str, param: str | None = None) -> RequestError:
    return RequestError(ErrorCode.INVALID_REQUEST, message, param=param)


def check(params: GenerationParams) -> None:
    """Raises RequestError naming the first parameter out of its range."""
    _number("temperature", params.temperature, 0.0, 2.0)
    _number("top_p", params.top_p, 0.0, 1.0, above_low=True)
    _number("min_p", params.min_p, 0.0, 1.0)
    _number("presence_penalty", params.presence_penalty, -2.0, 2.0)
    _number("frequency_penalty", params.frequency_penalty, -2.0, 2.0)
    _number("repetition_penalty", params.repetition_penalty, 0.0, 2.0, above_low=True)
    _number("ttft_s", params.ttft_s, MIN_S, MAX_TTFT_S)
    _number("tbt_s", params.tbt_s, MIN_S, MAX_TBT_S)
    if params.priority is not None and abs(params.priority) > MAX_PRIORITY:
        raise invalid(f"priority must be an integer from {-MAX_PRIORITY} to {MAX_PRIORITY}.", "priority")
    _at_least("top_k", params.top_k, -1)
    _at_least("max_tokens", params.max_tokens, 0 if params.prompt_logprobs is not None else 1)
    _at_least("min_tokens", params.min_tokens, 0)
    if params.seed is not None and not _INT64[0] <= params.seed <= _INT64[1]:
        raise invalid("seed must be a signed 64-bit integer.", "seed")
    _from_to("n", params.n, 1, MAX_CHOICES)
    _from_to("logprobs", params.logprobs, 0, MAX_LOGPROBS)
    _from_to("prompt_logprobs", params.prompt_logprobs, 0, MAX_LOGPROBS)
    if len(params.stop_token_ids or ()) > MAX_STOP_TOKENS:
        raise invalid(f"stop_token_ids may have at most {MAX_STOP_TOKENS} tokens.", "stop_token_ids")
    if len(params.logit_bias or ()) > MAX_BIASED_TOKENS:
        raise invalid(f"logit_bias may name at most {MAX_BIASED_TOKENS} tokens.", "logit_bias")
    for bias in (params.logit_bias or {}).values():
        _number("logit_bias", bias, -MAX_BIAS, MAX_BIAS)
    stops(params)


def check_tokens(params: GenerationParams, vocab_size: int) -> None:
    """What only a model can say of checked params. Raises RequestError."""
    check_token_ids(tuple(params.stop_token_ids or ()), vocab_size, "stop_token_ids")
    check_token_ids(tuple(params.logit_bias or ()), vocab_size, "logit_bias")


def check_prompt_logprobs(params: GenerationParams, num_tokens: int) -> None:
    """num_tokens: of all choices' prompts. Raises RequestError."""
    num_logprobs = 0 if params.prompt_logprobs is None else num_tokens * (1 + params.prompt_logprobs)
    if num_logprobs > MAX_PROMPT_LOGPROBS:
        raise invalid(
            f"This asks for {num_logprobs} log-probabilities of prompts ({num_tokens} tokens); at most "
            f"{MAX_PROMPT_LOGPROBS} are possible.",
            "logprobs",
        )


def num_choices(params: GenerationParams, num_prompts: int) -> int:
    """Of the whole request. Raises RequestError."""
    num = num_prompts * _or(params.n, 1)
    if not 1 <= num <= MAX_CHOICES:
        name = "prompt" if _or(params.n, 1) == 1 else "n"
        raise invalid(f"A request may have 1 to {MAX_CHOICES} choices (prompts times n), got {num}.", name)
    return num


def time_limit_s(params: GenerationParams) -> float | None:
    """For the whole call. Raises RequestError."""
    _number("timeout_s", params.timeout_s, MIN_S, MAX_TIMEOUT_S)
    return params.timeout_s


def stops(params: GenerationParams) -> tuple[str, ...]:
    """The stop strings. Raises RequestError."""
    if params.stop is None:
        return ()
    given = (params.stop,) if isinstance(params.stop, str) else tuple(params.stop)
    if len(given) > MAX_STOPS:
        raise invalid(f"stop may have at most {MAX_STOPS} strings, got {len(given)}.", "stop")
    if any(not 1 <= len(stop) <= MAX_STOP_CHARS for stop in given):
        raise invalid(f"Each stop string must have 1 to {MAX_STOP_CHARS} characters.", "stop")
    return given


def complete(
    params: GenerationParams,
    *,
    num_prompt_tokens: int,
    context_length: int,
    default_max_tokens: int | None,
    eos_token_ids: tuple[int, ...],
) -> Sampling:
    """Checked params with every default filled in; `default_max_tokens` None means the rest of the context. With
    max_tokens 0 a token is drawn, too, that nobody gets: workers know no output of none.

    Raises RequestError when prompt and output don't fit the context together.
    """
    room = context_length - num_prompt_tokens
    scores_only = params.max_tokens == 0
    wanted = 1 if scores_only else params.max_tokens or min(default_max_tokens or room, room)
    if room < 1 or wanted > room:
        raise context_exceeded(context_length, num_prompt_tokens, params.max_tokens or 0)
    min_tokens = _or(params.min_tokens, 0)
    if min_tokens > wanted:
        raise invalid(f"min_tokens ({min_tokens}) must not be greater than max_tokens ({wanted}).", "min_tokens")
    ends = (*(() if params.ignore_eos else eos_token_ids), *(params.stop_token_ids or ()))
    seed = secrets.randbits(64) if params.seed is None else params.seed % 2**64
    return Sampling(
        max_tokens=wanted,
        seed=seed,
        temperature=_or(params.temperature, 1.0),
        top_p=_or(params.top_p, 1.0),
        top_k=max(0, _or(params.top_k, 0)),
        min_p=_or(params.min_p, 0.0),
        presence_penalty=_or(params.presence_penalty, 0.0),
        frequency_penalty=_or(params.frequency_penalty, 0.0),
        repetition_penalty=_or(params.repetition_penalty, 1.0),
        min_tokens=min_tokens,
        stop_token_ids=tuple(dict.fromkeys(ends)),
        logit_bias=tuple(sorted((params.logit_bias or {}).items())),
        num_logprobs=params.logprobs,
        num_prompt_logprobs=params.prompt_logprobs,
    )


def service_level(params: GenerationParams, of_model: ServiceLevel) -> ServiceLevel:
    """The model's, but for what checked params name."""
    return changed(of_model, LevelChange(params.ttft_s, params.tbt_s, params.priority))


def context_exceeded(context_length: int, num_prompt_tokens: int, max_tokens: int = 0) -> RequestError:
    asked = f"{num_prompt_tokens + max_tokens} tokens ({num_prompt_tokens} in the prompt, {max_tokens} to generate)"
    return RequestError(
        ErrorCode.CONTEXT_LENGTH_EXCEEDED,
        f"This model's maximum context length is {context_length} tokens. However, you requested {asked}, and at least "
        "one token must remain to generate. Please shorten the prompt or lower max_tokens.",
        param="max_tokens" if num_prompt_tokens < context_length else "prompt",
    )


def check_token_ids(token_ids: tuple[int, ...], vocab_size: int, param: str = "prompt") -> None:
    if token_ids and not (min(token_ids) >= 0 and max(token_ids) < vocab_size):
        raise invalid(f"Token ids must be from 0 to {vocab_size - 1}.", param)


def _or(value: _T | None, default: _T) -> _T:
    return default if value is None else value


def _number(name: str, value: float | None, low: float, high: float, *, above_low: bool = False) -> None:
    if value is None:
        return
    if not math.isfinite(value) or not low <= value <= high or (above_low and value == low):
        opening = "greater than" if above_low else "at least"
        raise invalid(f"{name} must be {opening} {low:g} and at most {high:g}.", name)


def _at_least(name: str, value: int | None, low: int) -> None:
    if value is not None and not low <= value < 2**63:
        raise invalid(f"{name} must be an integer of at least {low}.", name)


def _from_to(name: str, value: int | None, low: int, high: int) -> None:
    if value is not None and not low <= value <= high:
        raise invalid(f"{name} must be an integer from {low} to {high}.", name)
