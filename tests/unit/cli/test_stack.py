from pathlib import Path

import pytest
from msgspec.structs import replace

from cli.stack import service_groups
from shared.config import BusConfig, Config, KeysConfig, ModelSource, TelemetryConfig, WorkerConfig, load_config
from shared.errors import ConfigError

BUSES = {user: BusConfig("nats://here:1", user, f"{user}-secret") for user in ("router", "worker", "gateway", "client")}
CONFIG = Config(models=(ModelSource("a", "/a"),), worker=WorkerConfig(num_workers=2, dtype="float32"))


def test_gateway_starts_last_and_so_stops_first() -> None:
    groups = service_groups(CONFIG, BUSES, {}, Path("/run"))
    assert [[service.name for service in group] for group in groups] == [
        ["router"],
        ["host-cache"],
        ["worker-0", "worker-1"],
        ["gateway"],
    ]


def test_services_tell_their_metrics_side_by_side() -> None:
    def addresses(telemetry: TelemetryConfig) -> list[tuple[str, int]]:
        groups = service_groups(replace(CONFIG, telemetry=telemetry), BUSES, {}, Path("/run"))
        found = [load_config(environ=service.environ).telemetry for group in groups for service in group]
        return [(each.metrics_host, each.metrics_port) for each in found]

    any_port = ("127.0.0.1", 0)  # router, host model cache, two workers, gateway
    assert addresses(TelemetryConfig()) == [any_port, ("", 0), any_port, any_port, ("", 0)]
    counted = [("0.0.0.0", 9100), ("", 0), ("0.0.0.0", 9101), ("0.0.0.0", 9102), ("", 0)]
    assert addresses(TelemetryConfig("0.0.0.0", 9100)) == counted
    with pytest.raises(ConfigError, match=r"telemetry\.metrics_port"):
        addresses(TelemetryConfig(metrics_port=65_534))


def test_each_service_has_the_configuration_its_own_place_and_its_own_credentials_only() -> None:
    for group in service_groups(CONFIG, BUSES, {"HOME": "/home"}, Path("/run")):
        for service in group:
            user = service.name.partition("-")[0]
            own = load_config(environ=service.environ)
            assert own.models == CONFIG.models and own.worker.dtype == "float32"
            assert own.bus == (BusConfig() if user == "host" else BUSES[user])
            assert own.worker.host_cache_socket == "/run/host_cache.socket"
            assert own.worker.id == (service.name if user == "worker" else "")
            secrets = [text for text in service.environ.values() if "secret" in text]
            assert secrets == ([] if user == "host" else [f"{user}-secret"])
            assert service.environ["HOME"] == "/home"


def test_api_keys_are_the_gateways_alone() -> None:
    config = replace(CONFIG, keys=KeysConfig(api="a=api-secret", admin="admin-secret"))
    for group in service_groups(config, {user: BusConfig() for user in BUSES}, {}, Path("/run")):
        for service in group:
            told = {text for text in service.environ.values() if "secret" in text}
            assert told == ({"a=api-secret", "admin-secret"} if service.name == "gateway" else set())


def test_services_log_as_they_are_told() -> None:
    telemetry = TelemetryConfig(log_format="json", access_log=True, vllm_metrics=False)
    groups = service_groups(replace(CONFIG, telemetry=telemetry), BUSES, {}, Path("/run"))
    found = [load_config(environ=service.environ).telemetry for group in groups for service in group]
    assert {(each.log_format, each.access_log, each.vllm_metrics) for each in found} == {("json", True, False)}
