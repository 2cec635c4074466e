import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config import (
    KEYS,
    BusConfig,
    Config,
    GatewayConfig,
    KeysConfig,
    ModelSource,
    RouterConfig,
    WorkerConfig,
    load_config,
    to_environ,
    variable,
)
from shared.errors import ConfigError
from shared.levels import LevelChange, ModelLevel, SloConfig

GIB = 1 << 30


def load_toml(folder: Path, text: str, environ: dict[str, str] | None = None) -> Config:
    file = folder / "kottos.toml"
    file.write_text(text, encoding="utf-8")
    return load_config(environ=environ or {}, file=file)


def refusal(overrides: dict[str, object] | None = None, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(overrides, environ or {})
    message = str(caught.value)
    assert "\n" not in message and "`" not in message
    return message


def test_nothing_given_means_the_defaults_with_absolute_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    config = load_config(environ={})
    home = Path("/home/somebody")
    folders = {"cache_dir": home / ".cache/kottos", "state_dir": home / ".local/state/kottos"}
    assert config == msgspec.structs.replace(Config(), **folders)


def test_command_line_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = tmp_path / "kottos.toml"
    file.write_text('log_level = "error"\n[gateway]\nport = 1\nmax_requests = 2\nkeepalive_s = 3\n')
    environ = {"KOTTOS_GATEWAY_PORT": "10", "KOTTOS_GATEWAY_MAX_REQUESTS": "20"}
    config = load_config({"gateway.port": 100}, environ, file)
    assert config.gateway == GatewayConfig(port=100, max_requests=20, keepalive_s=3.0)
    assert config.log_level == "error"


def test_the_environment_names_the_file_and_an_argument_another(tmp_path: Path) -> None:
    for port in (1, 2):
        (tmp_path / f"{port}.toml").write_text(f"gateway.port = {port}")
    environ = {"KOTTOS_CONFIG": str(tmp_path / "1.toml")}
    assert load_config(environ=environ).gateway.port == 1
    assert load_config(environ=environ, file=tmp_path / "2.toml").gateway.port == 2


def test_models_are_a_table_and_a_later_layer_replaces_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    text = '[models]\n"org/a:1" = "~/a"\nb = "org/hub-id"\n'
    file_models = (ModelSource("org/a:1", "/home/somebody/a"), ModelSource("b", "org/hub-id"))
    assert load_toml(tmp_path, text).models == file_models
    assert load_toml(tmp_path, text, {"KOTTOS_MODELS": "c=/c=1; d=/d"}).models == (
        ModelSource("c", "/c=1"),
        ModelSource("d", "/d"),
    )
    assert load_config({"models": ["e=/e"]}, {}, tmp_path / "kottos.toml").models == (ModelSource("e", "/e"),)


@pytest.mark.parametrize("name", ["worker.kv_memory", "worker.kv_memory_bytes"])
@pytest.mark.parametrize("value", ["760MiB", "760 mib", 760 << 20, str(760 << 20)])
def test_sizes_come_as_numbers_or_text_with_or_without_suffix(name: str, value: object, tmp_path: Path) -> None:
    assert load_config({name: value}, {}).worker.kv_memory_bytes == 760 << 20
    assert load_config({}, {variable(name): str(value)}).worker.kv_memory_bytes == 760 << 20
    written = f'"{value}"' if isinstance(value, str) else value
    assert load_toml(tmp_path, f"{name} = {written}").worker.kv_memory_bytes == 760 << 20


def test_levels_of_models_are_a_table_of_tables_or_texts(tmp_path: Path) -> None:
    text = '[slo]\ntbt_s = 1\n[slo.models]\n"org/a:1" = {ttft_s = 2, priority = -3}\nb = {}\n'
    slo = load_toml(tmp_path, text).slo
    assert slo == SloConfig(
        tbt_s=1.0, models=(a := ModelLevel("org/a:1", LevelChange(2.0, None, -3)), ModelLevel("b", LevelChange()))
    )
    texts = "org/a:1=priority:-3, ttft_s: 2"
    assert load_config(environ={"KOTTOS_SLO_MODELS": f"{texts}; c=tbt_s:1e-3"}).slo.models == (
        a,
        ModelLevel("c", LevelChange(tbt_s=0.001)),
    )
    assert load_config({"slo.models": [texts]}, {}, tmp_path / "kottos.toml").slo == SloConfig(tbt_s=1.0, models=(a,))


def test_an_empty_variable_is_not_set() -> None:
    assert load_config(environ={"KOTTOS_GATEWAY_PORT": "", "KOTTOS_CONFIG": "", "KOTTOS_MODELS": ""}) == load_config(
        environ={}
    )


def test_the_cache_folder_has_its_own_variable() -> None:
    assert load_config(environ={"KOTTOS_CACHE": "/somewhere"}).cache_dir == Path("/somewhere")


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("gateway.port", 65536, "65535"),
        ("gateway.port", -1, ">= 0"),
        ("gateway.port", True, "expected int"),
        ("gateway.host", "", "length"),
        ("gateway.keepalive_s", 0, "> 0"),
        ("gateway.keepalive_s", float("nan"), "nan"),
        ("gateway.keepalive_s", float("inf"), "inf"),
        ("gateway.max_requests", 0, ">= 1"),
        ("router.residency_bonus", -0.5, ">= 0"),
        ("worker.device", "tpu", "cpu or cuda"),
        ("worker.dtype", "int8", "bfloat16 or float32"),
        ("worker.num_workers", 0, ">= 1"),
        ("worker.kv_memory", "2 parsecs", "2GiB"),
        ("worker.kv_memory", "-1GiB", "2GiB"),
        ("worker.kv_memory", "9999999TiB", "at most"),
        ("worker.slab", -1, ">= 0"),
        ("log_level", "loud", "debug or info"),
        ("cache_dir", 3, "expected str"),
        ("bus.url", "http://here:1", "nats://"),
        ("bus.url", "nats://[::1:4222", "nats://"),
        ("bus.url", "nats://user:pass@here:4222", "bus.password"),
        ("models", ["no-path"], "NAME=PATH"),
        ("models", ["=/path"], "name"),
        ("models", ["name="], "path"),
        ("models", ["a=/1", "a=/2"], "twice"),
        ("models", [f"{'n' * 129}=/1"], "128"),
        ("models", ["bell\a=/1"], "control"),
        ("models", {"a=b": "/1"}, "'='"),
        ("models", {"a": 3}, "expected str"),
        ("slo.ttft_s", 0, ">= 1e-06"),
        ("slo.tbt_s", 3601, "<= 3600"),
        ("slo.priority", 1001, "<= 1000"),
        ("slo.models", ["no-change"], "NAME=KEY:NUMBER"),
        ("slo.models", ["a=ttft_s"], "NAME=KEY:NUMBER"),
        ("slo.models", ["a=ttft:1"], "ttft"),
        ("slo.models", ["a=ttft_s:soon"], "expected float"),
        ("slo.models", ["a=tbt_s:nan"], "nan"),
        ("slo.models", ["a=tbt_s:1,tbt_s:2"], "twice"),
        ("slo.models", ["a=tbt_s:1", "a=priority:2"], "twice"),
        ("slo.models", ["=tbt_s:1"], "name"),
        ("slo.models", {"a;b": {"tbt_s": 1}}, "name"),
        ("slo.models", {"a": {"priority": "1"}}, "expected int"),
    ],
)
def test_a_bad_value_is_refused_with_its_key(key: str, value: object, says: str) -> None:
    message = refusal({key: value})
    assert key in message and says in message


def test_a_bad_variable_is_refused_with_its_name() -> None:
    assert refusal(environ={"KOTTOS_GATEWAY_PORT": "http"}) == "KOTTOS_GATEWAY_PORT is 'http': expected int, got str"


def test_an_unknown_key_is_refused_and_a_near_one_is_proposed(tmp_path: Path) -> None:
    assert "KOTTOS_GATEWAY_PORT?" in refusal(environ={"KOTTOS_GATEWAY_PROT": "1"})
    assert "worker.kv_memory?" in refusal({"worker.kv_memorry": 1})
    for text in ("gatway.port = 1", "gateway = 3", "[gateway]\nprot = 1", "[gateway.port]\na = 1"):
        with pytest.raises(ConfigError, match=r"kottos\.toml"):
            load_toml(tmp_path, text)


def test_a_key_given_by_both_its_names_is_refused() -> None:
    assert "already given" in refusal({"worker.slab": 1 << 20, "worker.slab_bytes": 1 << 20})


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 1"):
        load_toml(tmp_path, "port 8000")
    with pytest.raises(ConfigError, match="No such file"):
        load_config(environ={}, file=tmp_path / "absent.toml")
    (tmp_path / "latin.toml").write_bytes(b'log_level = "\xe9"')
    with pytest.raises(ConfigError, match=r"latin\.toml"):
        load_config(environ={}, file=tmp_path / "latin.toml")


def test_no_message_repeats_a_secret() -> None:
    assert "hunter2" not in refusal({"bus.password": ["hunter2"]})
    assert "hunter2" not in refusal({"keys.api": ["hunter2"]}) + refusal({"keys.admin": ["hunter2"]})
    assert "hunter2" not in refusal({"bus.url": "nats://user:hunter2@here:1"})


def test_impossible_sums_are_refused_with_their_numbers() -> None:
    message = refusal({"worker.device_memory": "1GiB", "worker.kv_memory": "1GiB"})
    assert "1 GiB" in message and "lower worker.kv_memory" in message
    message = refusal({"worker.device_memory": "10MiB", "worker.slab": "4MiB"})
    assert "2 MiB" in message and "4 MiB" in message and "raise worker.device_memory" in message


printable = st.characters(exclude_categories=["C", "Zl", "Zp", "Zs"], exclude_characters="=;~")
words = st.text(printable, min_size=1, max_size=20)
counts = st.integers(1, 1 << 31)
seconds = st.floats(1e-6, 1e9)
configs = st.builds(
    Config,
    models=st.lists(st.builds(ModelSource, words, words), max_size=4, unique_by=lambda m: m.name).map(tuple),
    demo=st.booleans(),
    cache_dir=st.just(Path("/cache/with space")),
    state_dir=st.just(Path("/state")),
    log_level=st.sampled_from(["debug", "info", "warning", "error"]),
    bus=st.builds(BusConfig, st.sampled_from(["", "nats://127.0.0.1:4222"]), user=words, password=words),
    gateway=st.builds(GatewayConfig, host=words, port=st.integers(0, 65535), max_requests=counts, keepalive_s=seconds),
    keys=st.builds(KeysConfig, words, words, words),
    router=st.builds(RouterConfig, max_held=counts, residency_bonus=st.floats(0, 100)),
    worker=st.builds(
        WorkerConfig,
        device=st.sampled_from(["cpu", "cuda"]),
        dtype=st.sampled_from(["bfloat16", "float32"]),
        device_memory_bytes=st.integers(GIB, 1 << 50),
        slab_bytes=st.integers(1, 1 << 20),
        num_workers=st.integers(1, 1024),
        id=words,
    ),
    slo=st.builds(
        SloConfig,
        ttft_s=st.floats(1e-6, 86_400),
        tbt_s=st.floats(1e-6, 3_600),
        priority=st.integers(-1000, 1000),
        models=st.lists(
            st.builds(
                ModelLevel,
                words,
                st.builds(
                    LevelChange,
                    st.none() | st.floats(1e-6, 86_400),
                    st.none() | st.floats(1e-6, 3_600),
                    st.none() | st.integers(-1000, 1000),
                ),
            ),
            max_size=4,
            unique_by=lambda level: level.name,
        ).map(tuple),
    ),
)


@pytest.mark.parametrize("endpoint", ["user:sesame@collector", "ftp://sesame@collector", "http://[sesame"])
def test_a_collector_has_a_url_that_no_error_repeats(endpoint: str) -> None:
    with pytest.raises(ConfigError, match=r"telemetry\.otlp_endpoint: expected http") as caught:
        load_config({"telemetry.otlp_endpoint": endpoint}, {})
    assert "sesame" not in str(caught.value)


@given(configs)
def test_to_environ_is_the_inverse_of_loading(config: Config) -> None:
    environ = to_environ(config)
    assert load_config(environ=environ) == config
    for name, value in environ.items():
        os.fsencode(name + value)


def test_every_key_reaches_the_environment() -> None:
    lists: dict[str, object] = {"models": ["a=/a"], "slo.models": ["a=priority:1"]}
    texts = {"bus.url": "nats://h:1"} | dict.fromkeys(("bus.user", "bus.password", "keys.api", "keys.admin"), "x")
    filled = load_config(lists | texts, {})
    assert set(to_environ(filled)) == {variable(key) for key in KEYS} - {
        "KOTTOS_WORKER_ID",
        "KOTTOS_WORKER_HOST_CACHE_SOCKET",
        "KOTTOS_TELEMETRY_METRICS_HOST",
        "KOTTOS_TELEMETRY_OTLP_ENDPOINT",
        "KOTTOS_KEYS_FILE",
    }
