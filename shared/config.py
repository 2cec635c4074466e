"""Configuration: read once at start from a TOML file, the environment and the command line, then frozen.

Precedence: command line > environment > file > default. Every key `section.key` has the environment variable
`KOTTOS_SECTION_KEY`; models are `KOTTOS_MODELS="name=path;name=path"`. `to_environ` is the inverse, which is how a
supervisor hands its configuration to its children.
"""

from pathlib import Path

import msgspec


class ModelSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a model comes from: a Hugging Face folder, a GGUF file, or a hub id."""

    name: str
    path: str


class BusConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: str = ""  # nats://host:port; empty: `kottos serve` starts the embedded server
    user: str = ""
    password: str = ""


class GatewayConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    host: str = "127.0.0.1"
    port: int = 8000
    max_body_bytes: int = 4 << 20
    max_requests: int = 4096  # in flight per gateway; more get 429
    keepalive_s: float = 5.0  # between SSE comments while nothing else is sent
    template_timeout_s: float = 2.0  # for rendering a chat template
    write_timeout_s: float = 30.0  # a reader behind by more is ended


class RouterConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    max_held: int = 1024  # requests held while no worker can take them; more get 503
    hold_timeout_s: float = 30.0
    worker_dead_s: float = 10.0  # without a beat
    residency_bonus: float = 2.0  # sequences of load that a worker with the model resident may be ahead


class WorkerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    device: str = "cpu"  # cpu | cuda
    device_memory_bytes: int = 0  # 0 on cpu: unified memory, weights stay in the host cache
    host_memory_bytes: int = 0  # budget of the host model cache; 0: half of the memory limit
    kv_memory_bytes: int = 0  # 0: 20 % of the device memory (or of the memory limit when unified), 4 GiB at most
    slab_bytes: int = 4 << 20
    dtype: str = "bfloat16"  # bfloat16 | float32
    num_workers: int = 1
    num_threads: int = 0  # per worker; 0: cores / workers
    max_step_tokens: int = 256  # prefill tokens of one step
    max_running: int = 256  # sequences with KV on the device
    max_waiting: int = 4096  # admitted sequences per worker; more are refused
    turn_steps: int = 8  # least steps of a turn when changing models costs a copy


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    models: tuple[ModelSource, ...] = ()
    cache_dir: Path = Path("~/.cache/kottos")
    log_level: str = "info"
    bus: BusConfig = BusConfig()
    gateway: GatewayConfig = GatewayConfig()
    router: RouterConfig = RouterConfig()
    worker: WorkerConfig = WorkerConfig()
