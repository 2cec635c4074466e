"""Tiny models as workers serve them, with what transformers says alone."""

from collections.abc import Sequence
from pathlib import Path

import torch
import transformers

from benchmarks.tiny_models import make_tiny_model
from gpu_worker.execution.probe import probe
from gpu_worker.importer.job import run_import
from gpu_worker.importer.staging import exclusive
from gpu_worker.worker_memory import QUANTUM_BYTES
from shared.catalogue import PLAIN_LAYOUT, ModelEntry, is_imported, open_catalogue, read_card
from shared.config import Config, ModelSource, WorkerConfig
from shared.ids import ModelName
from tests.reference import Reference


def import_models(config: Config) -> None:
    """All that are not in the cache, in this process: a child of its own would load torch first."""
    dtype = config.worker.dtype
    for entry in open_catalogue(config).values():
        if not is_imported(entry, PLAIN_LAYOUT, dtype):
            with exclusive(entry.folder.parent, lambda: None):
                if not is_imported(entry, PLAIN_LAYOUT, dtype):
                    run_import(entry, dtype, probe, lambda progress: None)


class TinyModels:
    """Made and imported on demand, below a folder that several processes of tests may share."""

    def __init__(self, folder: Path, host_cache_socket: Path | None = None) -> None:
        """The host model cache at the socket is that of every worker whose test does not limit host memory."""
        self.folder = folder
        self.cache_dir = folder / "cache"
        self._host_cache_socket = host_cache_socket
        self._references: dict[str, Reference] = {}

    def source(self, family: str, seed: int = 0) -> ModelSource:
        path = self.folder / f"{family}-{seed}"
        with exclusive(self.folder, lambda: None):
            if not path.exists():
                make_tiny_model(family, path, seed)
        return ModelSource(path.name, str(path))

    def config(self, sources: Sequence[ModelSource], **worker: object) -> Config:
        settings = {
            "dtype": "float32",
            "kv_memory_bytes": 4 << 20,
            "slab_bytes": 256 << 10,
            "num_threads": 1,
            "policy": "round-robin",  # switches most
            "probe_steps": False,  # tests know when something runs, and what is in use
            **worker,
        }
        if self._host_cache_socket and "host_memory_bytes" not in settings:
            settings.setdefault("host_cache_socket", str(self._host_cache_socket))
        config = Config(models=tuple(sources), cache_dir=self.cache_dir, worker=WorkerConfig(**settings))  # type: ignore[arg-type]
        import_models(config)
        return config

    def weights_file(self, source: ModelSource) -> Path:
        return self._entry(source).weights_folder(PLAIN_LAYOUT, "float32") / "weights.bin"

    def block_bytes(self, source: ModelSource) -> int:
        """Of a KV block as the pool hands it out."""
        card = read_card(self._entry(source))
        assert card is not None
        return -(-card.kv.token_bytes(itemsize=4) * 16 // QUANTUM_BYTES) * QUANTUM_BYTES

    def generate(
        self, source: ModelSource, prompt: Sequence[int], num_tokens: int, guess: Sequence[int] = ()
    ) -> list[int]:
        """What transformers' own greedy generation says, alone; a right guess makes that a matter of one step."""
        return self._reference(source).generate(prompt, num_tokens, guess)

    def logprobs(self, source: ModelSource, token_ids: Sequence[int]) -> torch.Tensor:
        """[num_tokens, vocab_size]: what transformers' own model says comes after each token."""
        return torch.log_softmax(self._reference(source).logits(token_ids).double(), -1)

    def _entry(self, source: ModelSource) -> ModelEntry:
        return open_catalogue(self.config([source]))[ModelName(source.name)]

    def _reference(self, source: ModelSource) -> Reference:
        if source.name not in self._references:
            model = transformers.AutoModelForCausalLM.from_pretrained(source.path, dtype=torch.float32)
            self._references[source.name] = Reference(model)
        return self._references[source.name]
