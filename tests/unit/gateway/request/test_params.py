import math

import pytest

from gateway.request import params as checks
from shared.errors import ErrorCode, RequestError
from shared.messages import GenerationParams, Sampling
from shared.slo import ServiceLevel, Slo


def complete(params: GenerationParams, *, num_prompt_tokens: int = 10, default: int | None = 16) -> Sampling:
    return checks.complete(
        params,
        num_prompt_tokens=num_prompt_tokens,
        context_length=100,
        default_max_tokens=default,
        eos_token_ids=(7, 8),
    )


BAD: list[tuple[str, object]] = [
    ("temperature", -0.1),
    ("temperature", 2.1),
    ("temperature", math.nan),
    ("temperature", math.inf),
    ("top_p", 0.0),
    ("top_p", 1.5),
    ("top_k", -2),
    ("top_k", 2**70),
    ("min_p", -0.1),
    ("min_p", 1.1),
    ("presence_penalty", 2.5),
    ("frequency_penalty", -2.5),
    ("repetition_penalty", 0.0),
    ("repetition_penalty", 2.1),
    ("max_tokens", 0),
    ("max_tokens", -5),
    ("max_tokens", 2**80),
    ("min_tokens", -1),
    ("seed", 2**63),
    ("seed", -(2**63) - 1),
    ("ttft_s", 0.0),
    ("ttft_s", math.nan),
    ("ttft_s", 86_401.0),
    ("tbt_s", -1.0),
    ("tbt_s", 3_601.0),
    ("priority", -1001),
    ("priority", 2**70),
    ("stop", ""),
    ("stop", ["ok", ""]),
    ("stop", ["x"] * 17),
    ("stop", "x" * 257),
    ("n", 0),
    ("n", 65),
    ("logprobs", -1),
    ("logprobs", 21),
    ("prompt_logprobs", 21),
    ("logit_bias", {5: 100.5}),
    ("logit_bias", {5: math.nan}),
    ("logit_bias", {token_id: 1.0 for token_id in range(1025)}),
    ("stop_token_ids", [5] * 129),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_value_out_of_range_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(RequestError) as caught:
        checks.check(GenerationParams(**{name: value}))  # type: ignore[arg-type]
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    assert caught.value.param == name
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", 0.0), ("temperature", 2.0), ("top_p", 1.0), ("top_k", -1), ("top_k", 0), ("min_p", 1.0),
     ("presence_penalty", -2.0), ("repetition_penalty", 2.0), ("seed", -(2**63)), ("seed", 2**63 - 1),
     ("max_tokens", 1), ("stop", ["x"] * 16), ("stop", []), ("ttft_s", 1e-6), ("ttft_s", 86_400.0), ("tbt_s", 1e-6),
     ("tbt_s", 3_600.0), ("priority", -1000), ("priority", 1000), ("priority", 0),
     ("n", 64), ("logprobs", 0), ("logprobs", 20), ("prompt_logprobs", 20), ("logit_bias", {5: -100.0, 6: 100.0}),
     ("logit_bias", {}), ("stop_token_ids", [5] * 128)],
)  # fmt: skip
def test_the_ends_of_the_ranges_are_allowed(name: str, value: object) -> None:
    checks.check(GenerationParams(**{name: value}))  # type: ignore[arg-type]


def test_defaults_are_complete() -> None:
    sampling = complete(GenerationParams())
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.top_k) == (16, 1.0, 1.0, 0)
    assert sampling.stop_token_ids == (7, 8)
    assert complete(GenerationParams()).seed != sampling.seed  # drawn anew


def test_a_request_has_its_models_service_level_but_for_what_it_names() -> None:
    of_model = ServiceLevel(Slo(3.0, 0.4), priority=5)
    assert checks.service_level(GenerationParams(), of_model) == of_model
    asked = GenerationParams(tbt_s=0.05, priority=0)
    assert checks.service_level(asked, of_model) == ServiceLevel(Slo(3.0, 0.05), priority=0)


def test_a_chat_without_max_tokens_gets_the_rest_of_the_context() -> None:
    assert complete(GenerationParams(), default=None).max_tokens == 90


def test_the_default_gives_way_to_a_long_prompt_and_a_wish_does_not() -> None:
    assert complete(GenerationParams(), num_prompt_tokens=95).max_tokens == 5
    with pytest.raises(RequestError) as caught:
        complete(GenerationParams(max_tokens=6), num_prompt_tokens=95)
    assert caught.value.code is ErrorCode.CONTEXT_LENGTH_EXCEEDED
    assert "100 tokens" in caught.value.message


@pytest.mark.parametrize("num_prompt_tokens", [100, 101, 5000])
def test_a_prompt_that_fills_the_context_is_refused(num_prompt_tokens: int) -> None:
    with pytest.raises(RequestError) as caught:
        complete(GenerationParams(), num_prompt_tokens=num_prompt_tokens)
    assert caught.value.code is ErrorCode.CONTEXT_LENGTH_EXCEEDED


def test_max_tokens_may_fill_the_context_exactly() -> None:
    assert complete(GenerationParams(max_tokens=90)).max_tokens == 90


def test_a_seed_is_kept_as_64_bits() -> None:
    assert complete(GenerationParams(seed=5)).seed == 5
    assert complete(GenerationParams(seed=-1)).seed == 2**64 - 1


def test_ignore_eos_leaves_no_stop_tokens_and_top_k_minus_one_is_off() -> None:
    sampling = complete(GenerationParams(ignore_eos=True, top_k=-1))
    assert (sampling.stop_token_ids, sampling.top_k) == ((), 0)


def test_min_tokens_beyond_max_tokens() -> None:
    with pytest.raises(RequestError) as caught:
        complete(GenerationParams(min_tokens=9, max_tokens=8))
    assert caught.value.param == "min_tokens"


@pytest.mark.parametrize("token_ids", [(-1,), (3, 320), (2**70,)])
def test_token_ids_outside_the_vocabulary(token_ids: tuple[int, ...]) -> None:
    with pytest.raises(RequestError) as caught:
        checks.check_token_ids(token_ids, 320)
    assert caught.value.param == "prompt"


@pytest.mark.parametrize(
    "params", [GenerationParams(stop_token_ids=[320]), GenerationParams(logit_bias={3: 1.0, -1: 1.0})]
)
def test_token_ids_that_the_model_has_not_are_refused_by_name(params: GenerationParams) -> None:
    with pytest.raises(RequestError) as caught:
        checks.check_tokens(params, 320)
    assert caught.value.param == ("stop_token_ids" if params.stop_token_ids else "logit_bias")


@pytest.mark.parametrize(("n", "num_prompts", "expected"), [(None, 64, 64), (4, 16, 64), (1, 1, 1)])
def test_choices_are_prompts_times_n(n: int | None, num_prompts: int, expected: int) -> None:
    assert checks.num_choices(GenerationParams(n=n), num_prompts) == expected


@pytest.mark.parametrize(("n", "num_prompts", "param"), [(None, 65, "prompt"), (2, 33, "n"), (0, 1, "n"), (-3, 2, "n")])
def test_too_many_choices_or_none_are_refused(n: int | None, num_prompts: int, param: str) -> None:
    with pytest.raises(RequestError) as caught:
        checks.num_choices(GenerationParams(n=n), num_prompts)
    assert caught.value.param == param


def test_stop_tokens_are_the_models_and_the_clients() -> None:
    assert complete(GenerationParams(stop_token_ids=[5, 8, 5])).stop_token_ids == (7, 8, 5)
    assert complete(GenerationParams(stop_token_ids=[5, 8], ignore_eos=True)).stop_token_ids == (5, 8)


def test_a_bias_and_wishes_for_logprobs_go_along() -> None:
    sampling = complete(GenerationParams(logit_bias={9: 1.0, 3: -2.5}, logprobs=2, prompt_logprobs=0))
    assert sampling.logit_bias == ((3, -2.5), (9, 1.0))
    assert (sampling.num_logprobs, sampling.num_prompt_logprobs) == (2, 0)
    assert complete(GenerationParams()).num_logprobs is None


def test_no_output_is_for_prompts_that_are_scored() -> None:
    scored = GenerationParams(max_tokens=0, prompt_logprobs=0)
    checks.check(scored)
    assert complete(scored, num_prompt_tokens=99).max_tokens == 1
    with pytest.raises(RequestError):
        checks.check(GenerationParams(max_tokens=0))


def test_log_probabilities_of_prompts_are_bounded() -> None:
    checks.check_prompt_logprobs(GenerationParams(), 10**9)
    checks.check_prompt_logprobs(GenerationParams(prompt_logprobs=0), checks.MAX_PROMPT_LOGPROBS)
    with pytest.raises(RequestError):
        checks.check_prompt_logprobs(GenerationParams(prompt_logprobs=1), checks.MAX_PROMPT_LOGPROBS // 2 + 1)
