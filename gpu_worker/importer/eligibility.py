"""Which models can be served: rules over transformers' configuration, before any weight is read."""

from collections.abc import Iterator
from typing import Any, Final

from transformers import PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from shared.errors import ModelError

_LAYER_TYPES: Final = frozenset({"full_attention", "sliding_attention", "attention"})
_STATE_SPACE_MODELS: Final = frozenset(
    {"mamba", "mamba2", "falcon_mamba", "rwkv", "jamba", "bamba", "zamba", "zamba2", "falcon_h1", "nemotron_h", "xlstm"}
    | {"recurrent_gemma", "granitemoehybrid", "lfm2", "lfm2_moe"}
)
_STATE_SPACE_FIELDS: Final = ("mamba_d_state", "ssm_state_size", "state_size", "conv_L_cache", "linear_conv_kernel_dim")
# Frequencies that depend on the longest position of a batch: short of the trained length they are constant.
_BATCH_DEPENDENT_ROTARY: Final = frozenset({"dynamic", "longrope"})


def check_servable(config: PreTrainedConfig) -> None:
    """Raises ModelError that names the first thing in the way."""
    for reason in _obstacles(config):
        raise ModelError(f"{config.model_type} models can't be served yet: {reason}")


def _obstacles(config: PreTrainedConfig) -> Iterator[str]:
    model_type = config.model_type
    if getattr(config, "is_encoder_decoder", False):
        yield "an encoder-decoder model is not a causal language model"
    if config.get_text_config() is not config:
        yield "it is multimodal"
    if getattr(config, "add_cross_attention", False) or getattr(config, "cross_attention_layers", None):
        yield "it uses cross-attention"
    if getattr(config, "kv_lora_rank", None):
        yield "multi-head latent attention (MLA) keeps no plain K and V"
    if model_type in _STATE_SPACE_MODELS or any(getattr(config, field, None) for field in _STATE_SPACE_FIELDS):
        yield "state-space and recurrent layers keep a state that is not K and V"
    layer_types = set(getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None) or ())
    if other := layer_types - _LAYER_TYPES:
        yield f"layers of type {', '.join(sorted(other))}"
    known = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if model_type not in known:
        yield "transformers has no causal language model of this type"
    names = config.architectures or ()
    if names and not set(names) & set(known.values()):
        yield f"{names[0]} is not a causal language model"
    if method := _quantization_method(config):
        yield f"its weights are quantized ({method})"


def _quantization_method(config: PreTrainedConfig) -> str | None:
    """GGUF weights are unpacked while loading, so they don't count."""
    found = getattr(config, "quantization_config", None)
    if found is None:
        return None
    method = found.get("quant_method") if isinstance(found, dict) else found.quant_method
    name = str(getattr(method, "value", method))
    return None if name == "gguf" else name


def context_length(config: PreTrainedConfig) -> int:
    """Tokens of a sequence, prompt and output. Raises ModelError when the configuration does not say."""
    length = getattr(config, "max_position_embeddings", None)
    if not isinstance(length, int) or length < 1:
        raise ModelError(f"{config.model_type} models can't be served yet: no max_position_embeddings in config.json")
    for rotary in _rotary_parameters(config):
        if rotary.get("rope_type") in _BATCH_DEPENDENT_ROTARY:
            original = rotary.get("original_max_position_embeddings")
            original = original or getattr(config, "original_max_position_embeddings", None) or length
            length = min(length, original)
    return length


def _rotary_parameters(config: PreTrainedConfig) -> list[dict[str, Any]]:
    """One set for all layers, or one per layer type."""
    parameters = getattr(config, "rope_parameters", None) or {}
    return [parameters] if "rope_type" in parameters else [p for p in parameters.values() if isinstance(p, dict)]


def token_ids(*values: int | list[int] | None) -> tuple[int, ...]:
    """The union of end-of-sequence settings, each of which may be one id, several or none."""
    ids = {i for value in values if value is not None for i in ([value] if isinstance(value, int) else value)}
    return tuple(sorted(ids))
