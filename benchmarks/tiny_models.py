"""Tiny models with random weights, one per family, as Hugging Face folders: for tests and benchmarks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

FAMILIES: Final = (
    "llama", "llama_tied", "qwen2", "qwen3", "mistral", "gemma3", "gpt_neox", "phi", "qwen3_moe",
)  # fmt: skip
SLIDING_WINDOW: Final = 12  # of mistral (every layer) and gemma3 (three layers of four)
CONTEXT_LENGTH: Final = 512
VOCAB_SIZE: Final = 384
BOS_ID: Final = 0
EOS_ID: Final = 1

_CHAT_TEMPLATE: Final = (
    "{{ bos_token }}{% for message in messages %}{{ message.role }}: {{ message.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
_CORPUS: Final = (
    "The quick brown fox jumps over the lazy dog while the small model reads the same words again and again.",
    "One device leaves a model between two tokens and continues another, and no request is thrown away for it.",
    "def add(first, second):\n    return first + second\n\nprint(add(1, 2), add(30, 40))\n",
)
_HIDDEN: Final = 64
_NUM_HEADS: Final = 4


def make_tiny_model(family: str, folder: Path, seed: int = 0, *, chat_template: bool = True) -> Path:
    """Writes config, float32 safetensors and tokenizer into `folder`; without a chat template it is a base model."""
    config = _CONFIGS[family]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:  # norms and biases start as ones and zeros: a mix-up would not show
                    parameter.add_(torch.randn_like(parameter) * 0.1)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    make_tiny_tokenizer(chat_template=chat_template).save_pretrained(folder)
    return folder


def make_tiny_tokenizer(*, chat_template: bool = True) -> transformers.PreTrainedTokenizerFast:
    """Byte-level BPE: encodes any text, every id below VOCAB_SIZE decodes, `encode` prepends <bos>."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        _CORPUS,
        trainers.BpeTrainer(
            vocab_size=VOCAB_SIZE,
            special_tokens=["<bos>", "<eos>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    assert tokenizer.get_vocab_size() == VOCAB_SIZE
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", BOS_ID)]
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", model_max_length=CONTEXT_LENGTH
    )
    if chat_template:
        fast.chat_template = _CHAT_TEMPLATE
    return fast


def _common(**changes: Any) -> dict[str, Any]:
    return {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": _HIDDEN,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": _NUM_HEADS,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT_LENGTH,
        "bos_token_id": BOS_ID,
        "eos_token_id": EOS_ID,
        "pad_token_id": None,
        "tie_word_embeddings": False,
        "initializer_range": 0.35,  # with the default of 0.02 greedy output is one token for ever
        **changes,
    }


def _gpt_neox() -> transformers.PreTrainedConfig:
    fields = _common()
    del fields["num_key_value_heads"]
    return transformers.GPTNeoXConfig(**fields)


def _gemma3() -> transformers.PreTrainedConfig:
    return transformers.Gemma3TextConfig(
        **_common(
            num_hidden_layers=4,
            head_dim=24,
            query_pre_attn_scalar=24,
            tie_word_embeddings=True,
            initializer_range=0.02,  # else the scaled, tied embedding outweighs the layers and echoes its input
        ),
        sliding_window=SLIDING_WINDOW,
        layer_types=["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
    )


_CONFIGS: Final[dict[str, Callable[[], transformers.PreTrainedConfig]]] = {
    "llama": lambda: transformers.LlamaConfig(**_common()),
    "llama_tied": lambda: transformers.LlamaConfig(**_common(num_hidden_layers=3, tie_word_embeddings=True)),
    "qwen2": lambda: transformers.Qwen2Config(**_common()),
    "qwen3": lambda: transformers.Qwen3Config(**_common(head_dim=32)),
    "mistral": lambda: transformers.MistralConfig(**_common(num_key_value_heads=1), sliding_window=SLIDING_WINDOW),
    "gemma3": _gemma3,
    "gpt_neox": _gpt_neox,
    "phi": lambda: transformers.PhiConfig(**_common(num_key_value_heads=_NUM_HEADS)),
    "qwen3_moe": lambda: transformers.Qwen3MoeConfig(
        **_common(head_dim=16), moe_intermediate_size=32, num_experts=4, num_experts_per_tok=2
    ),
}
