"""Configuration: read once at start from a TOML file, the environment and the command line, then frozen.

Precedence: command line > environment > file > default. Every key `section.key` has the environment variable
`KOTTOS_SECTION_KEY` (`cache_dir` has `KOTTOS_CACHE`); models are `KOTTOS_MODELS="name=path;name=path"`, their service
levels `KOTTOS_SLO_MODELS="name=ttft_s:2,tbt_s:0.05;name=priority:1"`. Keys that end in `_bytes` take sizes like "2GiB"
and may be written without that ending. Secrets may come as files (`shared/secret_files.py`). `to_environ` is the
inverse of the environment, which is how a supervisor hands its configuration to its children.
"""

import difflib
import os
import reprlib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple, get_args, get_origin
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from shared.errors import ConfigError
from shared.levels import SloConfig, parse_model_levels
from shared.secret_files import with_secret_files
from shared.units import MAX_BYTES, format_size, parse_size

MAX_MODEL_NAME_CHARS: Final = 128

MAX_PORT: Final = 65_535

Port = Annotated[int, Meta(ge=0, le=MAX_PORT)]
Bytes = Annotated[int, Meta(ge=0, le=MAX_BYTES)]
SomeBytes = Annotated[int, Meta(ge=1, le=MAX_BYTES)]
Count = Annotated[int, Meta(ge=1, le=1 << 31)]
Seconds = Annotated[float, Meta(gt=0, le=1e9)]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["console", "json"]
PolicyName = Literal[
    "deadline", "round-robin", "aegaeon", "request", "request-sjf", "request-batch", "static", "dedicated"
]


class ModelSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a model comes from: a Hugging Face folder, a GGUF file, or a hub id."""

    name: str
    path: str

    def __str__(self) -> str:
        return f"{self.name}={self.path}"


class BusConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: str = ""  # nats://host:port; empty: `kottos serve` starts the embedded server
    user: str = ""
    password: str = ""


class GatewayConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    port: Port = 8000  # 0: any free port
    max_body_bytes: SomeBytes = 4 << 20
    max_requests: Count = 4096  # in flight per gateway; more get 429
    max_waiting_of_model: Count = 3072  # of them, for a first token of one model; more get 429
    max_waiting_of_tenant: Count = 2048  # of these, of one tenant
    max_ttft_s: Annotated[float, Meta(ge=0, le=1e9)] = 0.0  # who would clearly wait for longer gets 429; 0: nobody
    keepalive_s: Seconds = 5.0  # between SSE comments while nothing else is sent
    template_timeout_s: Seconds = 2.0  # for rendering a chat template
    read_timeout_s: Seconds = 30.0  # for a request's body to arrive; slower senders get 408
    write_timeout_s: Seconds = 30.0  # a reader behind by more is ended
    idle_timeout_s: Seconds = 75.0  # for a connection to bring its first, or next, request whole
    max_connections: Count = 16_384  # open at a time; more get 503
    max_unread_tokens: Count = 1 << 20  # of all streams; beyond, the one that is furthest behind is ended


class RouterConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    max_held: Count = 1024  # requests held while no worker can take them; more get 503
    max_held_of_tenant: Count = 512  # of one tenant and model; more get 429
    hold_timeout_s: Seconds = 30.0
    worker_dead_s: Seconds = 10.0  # without a beat
    # sequences of load that a worker with the model resident may be ahead
    residency_bonus: Annotated[float, Meta(ge=0, le=1e9)] = 2.0


class WorkerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    device: Literal["cpu", "cuda"] = "cpu"
    device_memory_bytes: Bytes = 0  # 0 on cpu: unified memory, weights stay in the host cache
    host_memory_bytes: Bytes = 0  # budget of the host model cache; 0: half of what the devices leave
    kv_memory_bytes: Bytes = 0  # 0: 20 % of the device memory (or of the memory limit when unified), 4 GiB at most
    least_kv_memory_bytes: Bytes = 0  # that weights leave to KV when they need more; 0: kv_memory
    most_kv_memory_bytes: Bytes = 0  # that KV may get from weights without work; 0: half of device_memory
    host_kv_memory_bytes: Bytes = 0  # 0: a quarter of what is left, kv_memory at most; less than a slab: none
    prefix_cache: bool = True  # KV of equal beginnings is shared, and kept until memory is needed
    slab_bytes: Bytes = 0  # 0: by the KV shapes of the models that are known at the start
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    num_workers: Annotated[int, Meta(ge=1, le=1024)] = 1
    num_threads: Annotated[int, Meta(ge=0, le=1024)] = 0  # per worker; 0: cores / workers
    max_step_tokens: Count = 256  # prefill tokens of one step
    max_running: Count = 256  # sequences with KV on the device
    max_waiting: Count = 4096  # admitted sequences per worker; more are refused
    policy: PolicyName = "deadline"  # which model runs next
    link_bandwidth_bytes: Bytes = 0  # per second, of an emulated link to the device memory; 0: copies go between steps
    turn_steps: Count = 8  # round-robin: least steps of a turn when changing models costs a copy
    min_turn: Annotated[float, Meta(ge=0, le=1000)] = (
        2.0  # deadline: least turn after a wait for weights, in such waits
    )
    max_wait_s: Seconds = 60.0  # deadline: a model that waits for longer goes first, and a sequence of its tenant's
    probe_steps: bool = True  # while idle, of models whose steps nobody has timed on this machine
    host_cache_socket: str = ""  # where the host model cache of all workers listens; empty: each has its own
    id: Annotated[str, Meta(max_length=64)] = (
        ""  # the worker's place, kept over restarts; empty: a new one at every start
    )


class KeysConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    file: str = ""  # where `kottos keys` keeps API keys, as hashes; empty: api_keys.json of state_dir
    api: str = ""  # others, without limits, as NAME=KEY;NAME=KEY
    admin: str = ""  # one that may administrate, too


class TelemetryConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    metrics_host: str = ""  # where a router or worker answers scrapes of its metrics; empty: nowhere
    metrics_port: Port = 0  # 0: any free port, which its beats tell
    vllm_metrics: bool = True  # vLLM's names of what is measured, beside ours
    log_format: LogFormat = "console"  # json: an object a line
    access_log: bool = False  # the gateway says how each request ended
    otlp_endpoint: str = ""  # http://host:port of a collector of traces; empty: OTEL_EXPORTER_OTLP_ENDPOINT, or none
    trace_sample_ratio: Annotated[float, Meta(ge=0, le=1)] = 1.0  # of requests that bring no trace of their own
    trace_content: bool = False  # prompts and outputs are in traces


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    models: tuple[ModelSource, ...] = ()
    demo: bool = False  # `kottos serve` adds the demo models
    cache_dir: Path = Path("~/.cache/kottos")
    state_dir: Path = Path("~/.local/state/kottos")  # what outlives a stack: API keys, changes at run time
    log_level: LogLevel = "info"
    bus: BusConfig = BusConfig()
    gateway: GatewayConfig = GatewayConfig()
    keys: KeysConfig = KeysConfig()
    router: RouterConfig = RouterConfig()
    worker: WorkerConfig = WorkerConfig()
    slo: SloConfig = SloConfig()
    telemetry: TelemetryConfig = TelemetryConfig()


class _Given(NamedTuple):
    """A value as somebody wrote it."""

    value: object
    origin: str  # where, for error messages
    is_text: bool = False  # from the environment or the command line, where "8000" is a number


_SECTIONS: Final = {
    field.name: field.type
    for field in msgspec.structs.fields(Config)
    if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct)
}
_TYPES: Final = {  # key -> type
    **{field.name: field.type for field in msgspec.structs.fields(Config) if field.name not in _SECTIONS},
    **{f"{name}.{f.name}": f.type for name, struct in _SECTIONS.items() for f in msgspec.structs.fields(struct)},
}
KEYS: Final = tuple(_TYPES)
# what people may write -> key
_NAMES: Final = {key: key for key in KEYS} | {key.removesuffix("_bytes"): key for key in KEYS}
# values that no error message repeats
_SECRETS: Final = frozenset(
    {"bus.url", "bus.user", "bus.password", "keys.api", "keys.admin", "telemetry.otlp_endpoint"}
)
CONFIG_VARIABLE: Final = "KOTTOS_CONFIG"  # names the file
URL_VARIABLE: Final = "KOTTOS_URL"  # for commands that talk to a gateway
API_KEY_VARIABLE: Final = "KOTTOS_API_KEY"  # the same
_NO_SETTINGS: Final = frozenset({CONFIG_VARIABLE, URL_VARIABLE, API_KEY_VARIABLE})


def variable(name: str) -> str:
    """The environment variable of a key, which may come without its `_bytes`."""
    return "KOTTOS_CACHE" if name == "cache_dir" else f"KOTTOS_{name.replace('.', '_').upper()}"


_VARIABLES: Final = {variable(name): name for name in _NAMES}
# those that may come as files, by the name of the variable with _FILE behind it
SECRET_VARIABLES: Final = tuple(map(variable, ("bus.password", "keys.api", "keys.admin")))


def load_config(
    overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] = os.environ,
    file: Path | None = None,
) -> Config:
    """Reads, checks and freezes the configuration. An empty environment variable counts as not set.

    `overrides` has values by key, as such or as text; models and their levels are sequences of "NAME=...".
    Raises ConfigError, whose message names the key to change.
    """
    given: dict[str, _Given] = {}
    path = file or environ.get(CONFIG_VARIABLE)
    if path:
        given |= _from_file(Path(path))
    given |= _from_environ(environ)
    given |= _by_key((name, _Given(value, f"{name} (command line)", True)) for name, value in (overrides or {}).items())
    config = _assemble({key: _convert(key, value) for key, value in given.items()})
    _check_models(config.models)
    _check_bus(config.bus)
    _check_otlp(config.telemetry.otlp_endpoint)
    _check_memory(config.worker)
    try:
        cache_dir, state_dir = (folder.expanduser().absolute() for folder in (config.cache_dir, config.state_dir))
        return msgspec.structs.replace(config, cache_dir=cache_dir, state_dir=state_dir)
    except RuntimeError as error:
        raise ConfigError(f"cache_dir {config.cache_dir}, state_dir {config.state_dir}: {error}") from error


def to_environ(config: Config) -> dict[str, str]:
    """The variables that make `load_config` return this configuration again; contains secrets."""
    texts = {variable(key): _to_text(_get(config, key)) for key in KEYS}
    return {name: text for name, text in texts.items() if text}


def _from_file(path: Path) -> dict[str, _Given]:
    try:
        tree = tomllib.loads(path.expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"configuration file {path}: {error.strerror}") from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise ConfigError(f"configuration file {path}: {error}") from error
    flat: dict[str, object] = {}
    for name, value in tree.items():
        if name in _SECTIONS and isinstance(value, dict):
            flat |= {f"{name}.{key}": item for key, item in value.items()}
        else:
            flat[name] = value
    return _by_key((name, _Given(value, f"{name} ({path})")) for name, value in flat.items())


def _from_environ(environ: Mapping[str, str]) -> dict[str, _Given]:
    return _by_key(
        (_VARIABLES.get(name, name), _Given(value, name, is_text=True))
        for name, value in with_secret_files(environ, SECRET_VARIABLES).items()
        if name.startswith("KOTTOS_") and name not in _NO_SETTINGS and value
    )


def _by_key(items: Iterable[tuple[str, _Given]]) -> dict[str, _Given]:
    given: dict[str, _Given] = {}
    for name, value in items:
        key = _NAMES.get(name)
        if key is None:
            known = _VARIABLES if name == value.origin else _NAMES  # a variable is its own origin
            close = difflib.get_close_matches(name, known, n=1)
            raise ConfigError(f"{value.origin}: there is no such key" + (f"; do you mean {close[0]}?" if close else ""))
        if key in given:
            raise ConfigError(f"{value.origin}: {key} is already given by {given[key].origin}")
        given[key] = value
    return given


def _convert(key: str, given: _Given) -> object:
    value = given.value
    try:
        if key == "models":
            return _parse_models(value)
        if key == "slo.models":
            return parse_model_levels(value)
        if _TYPES[key] is Path:
            return value if isinstance(value, Path) else Path(msgspec.convert(value, str))
        if key.endswith("_bytes") and isinstance(value, str):
            value = parse_size(value.removesuffix("/s") if "bandwidth" in key else value)
        return msgspec.convert(value, _TYPES[key], strict=not given.is_text)
    except (ValueError, RuntimeError) as error:  # RuntimeError: no home folder for a ~
        said = "" if key in _SECRETS or key == "models" else f" is {reprlib.repr(given.value)}"
        is_choice = get_origin(_TYPES[key]) is Literal
        reason = f"expected {' or '.join(get_args(_TYPES[key]))}" if is_choice else str(error).replace("`", "")
        raise ConfigError(f"{given.origin}{said}: {reason[:1].lower()}{reason[1:]}") from error


def _parse_models(value: object) -> tuple[ModelSource, ...]:
    """A table, "name=path;name=path", or a sequence of "name=path". Raises ValueError."""
    if isinstance(value, Mapping):
        table = msgspec.convert(value, dict[str, str])
        return tuple(ModelSource(name, _expand(path)) for name, path in table.items())
    texts = value.split(";") if isinstance(value, str) else msgspec.convert(value, list[str])
    models = []
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals:
            raise ValueError(f"expected NAME=PATH, got {reprlib.repr(text)}")
        models.append(ModelSource(name.strip(), _expand(path.strip())))
    return tuple(models)


def _expand(path: str) -> str:
    return str(Path(path).expanduser()) if path.startswith("~") else path


def _assemble(values: Mapping[str, object]) -> Config:
    top = {key: value for key, value in values.items() if "." not in key}
    sections = {
        name: struct(**{key.partition(".")[2]: value for key, value in values.items() if key.startswith(f"{name}.")})
        for name, struct in _SECTIONS.items()
    }
    return Config(**(top | sections))  # type: ignore[arg-type]  # every value was converted to its key's type


def _check_models(models: Iterable[ModelSource]) -> None:
    names: set[str] = set()
    for model in models:
        check_model(model)
        if model.name in names:
            raise ConfigError(f"models: the name {reprlib.repr(model.name)} is given twice")
        names.add(model.name)


def check_model(model: ModelSource) -> None:
    """Whether name and path can be written in every form of the configuration. Raises ConfigError."""
    shown = reprlib.repr(model.name)
    if not 0 < len(model.name) <= MAX_MODEL_NAME_CHARS or model.name != model.name.strip():
        raise ConfigError(f"models: the name {shown} must have 1 to {MAX_MODEL_NAME_CHARS} characters, no outer spaces")
    if not model.name.isprintable() or set(model.name) & set("=;"):
        raise ConfigError(f"models: the name {shown} must have no control characters, '=' or ';'")
    if not model.path or not model.path.isprintable() or ";" in model.path or model.path != model.path.strip():
        raise ConfigError(f"models: the path of {shown} must not be empty, nor have control characters or ';'")


def _check_bus(bus: BusConfig) -> None:
    if not bus.url:
        return
    try:
        parts = urlsplit(bus.url)
        is_valid = parts.scheme in ("nats", "tls") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets, port
        is_valid = False
    if not is_valid:
        raise ConfigError("bus.url: expected nats://host:port or tls://host:port")
    if parts.username is not None or parts.password is not None:
        raise ConfigError("bus.url: put the credentials into bus.user and bus.password instead")


def _check_otlp(endpoint: str) -> None:
    try:
        parts = urlsplit(endpoint)
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets, port
        is_valid = False
    if endpoint and not is_valid:
        raise ConfigError("telemetry.otlp_endpoint: expected http://host:port or https://host:port")


def _check_memory(worker: WorkerConfig) -> None:
    device_bytes, kv_bytes = worker.device_memory_bytes, worker.kv_memory_bytes
    if device_bytes and kv_bytes >= device_bytes:
        raise ConfigError(
            f"worker.kv_memory {format_size(kv_bytes)} leaves nothing of worker.device_memory "
            f"{format_size(device_bytes)} for weights: lower worker.kv_memory"
        )
    kv_bytes = kv_bytes or device_bytes // 5  # 0 where the machine's memory decides
    if 0 < kv_bytes < worker.slab_bytes:
        key = "worker.kv_memory" if worker.kv_memory_bytes else "worker.device_memory"
        raise ConfigError(
            f"worker.slab {format_size(worker.slab_bytes)} does not fit into the KV memory of "
            f"{format_size(kv_bytes)}: raise {key} or lower worker.slab"
        )


def _get(config: Config, key: str) -> object:
    section, _, field = key.rpartition(".")
    return getattr(getattr(config, section) if section else config, field)


def _to_text(value: object) -> str:
    if isinstance(value, tuple):
        return ";".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
