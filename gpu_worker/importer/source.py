"""Reads a folder, a GGUF file or a hub id with transformers' own loaders; runs no foreign code."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from shared.catalogue import is_hub_id
from shared.errors import ModelError

_HUB_FILES: Final = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")
_PICKLES: Final = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True, slots=True)
class Source:
    """Local files of one model."""

    folder: Path
    gguf_file: str | None = None  # inside the folder

    @property
    def arguments(self) -> dict[str, Any]:
        """What every loader of transformers gets."""
        arguments: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
        if self.gguf_file is not None:
            arguments["gguf_file"] = self.gguf_file
        return arguments


def open_source(source: str) -> Source:
    """Finds or fetches the files. Raises ModelError where there are none that may be read."""
    path = Path(source).expanduser()
    if path.is_file():
        return Source(path.parent, path.name)
    folder = path if path.is_dir() else _fetch(source)
    _refuse_foreign_code(folder)
    if not any(folder.glob("*.safetensors")):
        if any(any(folder.glob(pattern)) for pattern in _PICKLES):
            raise ModelError("its weights are pickle files, which can run code when read: convert them to safetensors")
        raise ModelError("no .safetensors files")
    return Source(folder)


def _fetch(source: str) -> Path:
    if not is_hub_id(source):
        raise ModelError(f"no such file or folder: {source}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source, allow_patterns=list(_HUB_FILES)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(f"{source} is no local path, and the hub did not give it: {error}") from error


def _refuse_foreign_code(folder: Path) -> None:
    settings = read_json(folder / "config.json")
    model_type = settings.get("model_type")
    if model_type not in CONFIG_MAPPING_NAMES:
        if "auto_map" in settings:
            raise ModelError(f"{model_type} models need code of their own (auto_map), which is never run")
        raise ModelError(f"transformers {transformers.__version__} has no model type {model_type!r}")


def read_json(file: Path) -> dict[str, Any]:
    """An absent file is an empty one."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        return {}
    except msgspec.DecodeError as error:
        raise ModelError(f"damaged file {file.name}: {error}") from error


def load_config(source: Source) -> PreTrainedConfig:
    try:
        return AutoConfig.from_pretrained(source.folder, **source.arguments)
    except Exception as error:  # whatever the loader raises is the reason
        raise ModelError(f"its configuration can't be read: {error}") from error


def load_tokenizer(source: Source) -> transformers.PreTrainedTokenizerFast:
    """Slow tokenizers come converted."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.folder, **source.arguments)
    except Exception as error:  # whatever the loader raises is the reason
        raise ModelError(f"its tokenizer can't be read: {error}") from error
    if not tokenizer.is_fast:
        raise ModelError(f"its tokenizer ({type(tokenizer).__name__}) has no tokenizer.json and can't be converted")
    return cast(transformers.PreTrainedTokenizerFast, tokenizer)


def load_model(source: Source, dtype: torch.dtype) -> PreTrainedModel:
    """The reference model, with transformers' plain attention."""
    arguments = source.arguments | {"dtype": dtype, "attn_implementation": "eager", "output_loading_info": True}
    if source.gguf_file is None:
        arguments["use_safetensors"] = True
    elif hasattr(transformers, "GgufConfig"):  # older releases always unpack
        arguments["quantization_config"] = transformers.GgufConfig(dequantize=True)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(source.folder, **arguments)
    except Exception as error:  # whatever the loader raises is the reason
        raise ModelError(f"transformers can't load it: {error}") from error
    model, info = cast(tuple[PreTrainedModel, dict[str, Any]], loaded)
    absent = sorted({*info["missing_keys"], *(str(key) for key in info["mismatched_keys"])})
    if absent:  # transformers would go on with random numbers
        raise ModelError(f"its files lack {len(absent)} tensors or have them in other shapes, e.g. {absent[0]}")
    if not model._supports_attention_backend:
        raise ModelError(f"{type(model).__name__} can't be served yet: its attention can't be exchanged")
    return model.eval().requires_grad_(False)
