"""The chart, rendered by Helm's own library and held against Kubernetes' schemas."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from shared.config import load_config
from shared.subjects import PERMISSIONS

helm = pytest.importorskip("helm_python", reason="helm-python-sdk is not installed")
kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "kottos"
CUSTOM_KINDS = {"ServiceMonitor", "ScaledObject"}  # whose schemas are not Kubernetes' own
EVERYTHING: Mapping[str, Any] = {
    "image": {"registry": "registry.example.com/team", "tag": "0.2.0", "pullSecrets": ["pull"]},
    "models": {"a": "/var/cache/kottos/own/a", "b": "org/b"},
    "demo": False,
    "otlpEndpoint": "http://collector:4318",
    "settings": {"KOTTOS_SLO_TTFT_S": 2},
    "existingSecret": "ours",
    "cache": {"existingClaim": "models"},
    "gateway": {"autoscaling": {"enabled": True}, "service": {"annotations": {"a": "b"}}},
    "worker": {
        "device": "cuda",
        "deviceMemory": "70GiB",
        "resources": {"limits": {"nvidia.com/gpu": 1}},
        "keda": {"enabled": True},
        "nodeSelector": {"gpu": "yes"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
    },
    "nats": {"url": "nats://bus.example.com:4222"},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
}


def render(values: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Objects by kind and name without the release's."""
    with helm.Chart.load(CHART) as chart:
        chart.validate_schema(values)
        texts = chart.render(dict(values), name="kt", namespace="models")
    documents = [d for file, text in texts.items() if file.endswith(".yaml") for d in yaml.safe_load_all(text) if d]
    found = {(d["kind"], d["metadata"]["name"].removeprefix("kt-")): d for d in documents}
    assert len(found) == len(documents), "two objects of one name"
    return found


def pods_of(objects: Mapping[tuple[str, str], dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: o["spec"]["template"]["spec"] for (_, name), o in objects.items() if "template" in o.get("spec", {})}


def environment(container: Mapping[str, Any]) -> dict[str, str]:
    """Values, or a word for what comes from elsewhere, that passes where it stands."""
    return {each["name"]: each.get("value", "from-a-secret=from-a-secret") for each in container.get("env", ())}


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["as it comes", "everything"])
@pytest.mark.parametrize("version", ["1.27", "1.37"])
def test_kubernetes_takes_what_it_renders(values: Mapping[str, Any], version: str) -> None:
    objects = render(values)
    for (kind, _), rendered in objects.items():
        if kind not in CUSTOM_KINDS:
            kubernetes_validate.validate(rendered, version, strict=True)
    assert {kind for kind, _ in objects} >= {"Deployment", "StatefulSet", "Service", "PodDisruptionBudget"}


def test_lint_finds_no_error() -> None:
    report = helm.lint(CHART, {}, kube_version="v1.30.0")
    assert (report["errors"] or [], [m for m in report["messages"] or [] if m["severity"] > 1]) == ([], [])


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["as it comes", "everything"])
def test_services_start_with_these_settings_and_without_rights(values: Mapping[str, Any]) -> None:
    pods = pods_of(render(values))
    for name in ("gateway", "router", "steward", "worker"):
        [container] = pods[name]["containers"]
        config = load_config(environ=environment(container))
        assert (config.bus.user, config.bus.url.startswith("nats://")) == (name, True)
        assert pods[name]["enableServiceLinks"] is False, "or Kubernetes sets KOTTOS_GATEWAY_PORT"
        assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
    for pod in pods.values():
        assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert container["resources"]["limits"]
            mounted = {mount["name"] for mount in container.get("volumeMounts", ())}
            assert mounted <= {volume["name"] for volume in pod.get("volumes", ())} | {"data"}


def test_a_service_sees_no_password_but_its_own() -> None:
    objects = render({})
    [secret] = [o for (kind, _), o in objects.items() if kind == "Secret"]
    kept = secret["stringData"]
    assert {key for key in kept if key.startswith("bus_")} == {f"bus_{user}" for user in PERMISSIONS}
    assert all(f'{user.upper()}_PASSWORD: "{kept[f"bus_{user}"]}"' in kept["passwords.conf"] for user in PERMISSIONS)
    for name, pod in pods_of(objects).items():
        sources = [each.get("valueFrom", {}) for c in pod["containers"] for each in c.get("env", ())]
        names = [source["secretKeyRef"]["key"] for source in sources if "secretKeyRef" in source]
        assert [key for key in names if key.startswith("bus_")] == ([f"bus_{name}"] if name != "nats" else [])
        assert ({"api_keys", "admin_key"} <= set(names)) == (name == "gateway")


def test_switches_leave_out_what_they_should() -> None:
    objects = render(EVERYTHING)
    kinds = [kind for kind, _ in objects]
    assert not {"Secret", "ConfigMap"} & set(kinds) and ("StatefulSet", "nats") not in objects
    assert {"ServiceMonitor", "ScaledObject", "HorizontalPodAutoscaler"} <= set(kinds)
    assert "replicas" not in objects["Deployment", "gateway"]["spec"]
    [worker] = pods_of(objects)["worker"]["containers"]
    assert worker["image"] == "registry.example.com/team/kottos/worker-gpu:0.2.0"
    [steward] = pods_of(objects)["steward"]["containers"]
    config = load_config(environ=environment(steward))
    assert [str(model) for model in config.models] == ["a=/var/cache/kottos/own/a", "b=org/b"]


@pytest.mark.parametrize(
    "values",
    [{"worker": {"replica": 2}}, {"worker": {"policy": "fair"}}, {"settings": {"PATH": "/"}}, {"models": {"a;b": "x"}}],
)
def test_wrong_values_are_refused(values: Mapping[str, Any]) -> None:
    with pytest.raises(helm.HelmValuesError):
        render(values)


def test_the_values_fit_their_own_schema() -> None:
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    jsonschema.validate(values, schema)
    assert set(values) == set(schema["properties"]) - {"global"}
