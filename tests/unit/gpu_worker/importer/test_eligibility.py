"""Models that can't be served are refused by what is in the way."""

from typing import Any

import pytest
import transformers
from transformers import AutoConfig, LlamaConfig

from gpu_worker.importer.eligibility import check_servable, context_length, token_ids
from shared.errors import ModelError


@pytest.mark.parametrize(
    "model_type",
    ["llama", "qwen2", "qwen3", "qwen3_moe", "mistral", "mixtral", "gemma2", "gemma3_text", "gpt_neox", "phi", "phi3"],
)
def test_plain_decoders_are_servable(model_type: str) -> None:
    config = AutoConfig.for_model(model_type)
    check_servable(config)
    assert context_length(config) > 0


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [
        ("t5", "encoder-decoder"),
        ("whisper", "encoder-decoder"),
        ("mamba", "state-space"),
        ("mamba2", "state-space"),
        ("rwkv", "state-space"),
        ("jamba", "state-space"),
        ("falcon_h1", "state-space"),
        ("recurrent_gemma", "state-space"),
        ("lfm2", "state-space"),
        ("qwen3_next", "state-space"),
        ("minimax", "linear_attention"),
        ("deepseek_v2", "latent"),
        ("deepseek_v3", "latent"),
        ("mllama", "multimodal"),
        ("gemma3", "multimodal"),
        ("llama4_text", "chunked_attention"),
        ("vit", "no causal language model"),
    ],
)
def test_others_are_refused_with_their_reason(model_type: str, reason: str) -> None:
    with pytest.raises(ModelError, match=rf"^{model_type} models.*{reason}"):
        check_servable(AutoConfig.for_model(model_type))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architectures": ["LlamaForSequenceClassification"]}, "LlamaForSequenceClassification"),
        ({"add_cross_attention": True}, "cross-attention"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "gptq"),
    ],
)
def test_unservable_variants_of_a_servable_family(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        check_servable(LlamaConfig(**changes))


def test_unpacked_gguf_does_not_count_as_quantized() -> None:
    config = LlamaConfig()
    config.quantization_config = transformers.GgufConfig(dequantize=True)
    check_servable(config)


@pytest.mark.parametrize(
    ("rotary", "expected"),
    [
        ({"rope_type": "default", "rope_theta": 1e4}, 8192),
        ({"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0, "original_max_position_embeddings": 4096}, 8192),
        ({"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0, "original_max_position_embeddings": 4096}, 4096),
        ({"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}, 8192),
    ],
)
def test_context_is_limited_where_rotary_depends_on_the_batch(rotary: dict[str, Any], expected: int) -> None:
    assert context_length(LlamaConfig(max_position_embeddings=8192, rope_parameters=rotary)) == expected


def test_context_of_longrope_and_of_rotary_per_layer_type() -> None:
    factors = {"short_factor": [1.0] * 48, "long_factor": [2.0] * 48}
    longrope = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 4096, **factors}
    phi3 = transformers.Phi3Config(
        max_position_embeddings=131072, original_max_position_embeddings=4096, rope_parameters=longrope, pad_token_id=0
    )
    assert context_length(phi3) == 4096
    assert context_length(transformers.Gemma3TextConfig(max_position_embeddings=32768)) == 32768


def test_a_model_that_does_not_say_its_context_is_refused() -> None:
    with pytest.raises(ModelError, match="max_position_embeddings"):
        context_length(AutoConfig.for_model("bloom"))


def test_end_tokens_are_the_union_of_all_settings() -> None:
    assert token_ids(2, [106, 1], None) == (1, 2, 106)
    assert token_ids(None, None) == ()
    assert token_ids(0) == (0,)
