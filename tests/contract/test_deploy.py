"""What lies in deploy/ is accepted by the programs that read it, and says what the code says."""

import json
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.nats_conf import FILE, conf, password_name
from shared.config import KEYS as SETTINGS
from shared.config import SECRET_VARIABLES, variable
from shared.secret_files import SUFFIX
from shared.subjects import PERMISSIONS
from tests.compose_processes import read_compose

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
PROFILES = ("gpu", "observability")
OURS = {"router", "steward", "host-cache", "worker", "worker-gpu", "gateway"}


def program(name: str) -> str:
    """Its path; the test is skipped where it is not."""
    path = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    return path or pytest.skip(f"{name} is not installed")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return read_compose(COMPOSE, {}, PROFILES)


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    subprocess.run(["sh", str(DEPLOY / "secrets.sh"), str(tmp_path / "secrets")], check=True)
    return tmp_path / "secrets"


def test_docker_compose_accepts_it_and_reads_what_we_read(compose: dict[str, Any]) -> None:
    profiles = [word for profile in PROFILES for word in ("--profile", profile)]
    command = [program("docker-compose"), "-f", str(COMPOSE), *profiles, "config", "--format", "json"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    read = json.loads(ended.stdout)["services"]
    assert set(read) == set(compose["services"])
    for name, service in compose["services"].items():
        environment = {key: str(value) for key, value in service.get("environment", {}).items()}
        assert (read[name].get("environment") or {}) == environment
        assert read[name].get("command") == service.get("command")
        assert set(read[name].get("depends_on", {})) == set(service.get("depends_on", {}))


def test_settings_are_there(compose: dict[str, Any]) -> None:
    known = {variable(name) for key in SETTINGS for name in (key, key.removesuffix("_bytes"))}
    known |= {f"{name}{SUFFIX}" for name in SECRET_VARIABLES}
    chart = "".join(path.read_text() for path in (DEPLOY / "helm").rglob("*.*") if path.suffix in (".tpl", ".yaml"))
    used = {name for service in compose["services"].values() for name in service.get("environment", {})}
    used |= set(re.findall(r"KOTTOS_[A-Z_]*[A-Z]\b", chart)) - {"KOTTOS_SECTION_KEY"}
    assert {name for name in used if name.startswith("KOTTOS_")} <= known


def test_services_of_ours_have_no_rights_that_they_don_t_need(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["restart"] == "unless-stopped"
        assert re.fullmatch(r"[^:]+:v?\d+\.\d+\.\d+", service["image"]), "a version, so that it stays what it was"
        assert "memory" in service["deploy"]["resources"]["limits"]
        passwords = [s for s in service.get("secrets", ()) if isinstance(s, str) and s.startswith("bus_")]
        user = service.get("environment", {}).get("KOTTOS_BUS_USER")
        assert passwords == ([f"bus_{user}"] if user else []), f"{name} sees other users' passwords"
        published = [port for port in service.get("ports", ()) if not re.match(r"127\.0\.0\.1:", port)]
        assert published == []


@pytest.mark.parametrize("image", ["gateway", "router", "worker"])
def test_images_are_pinned_and_run_as_nobody_in_particular(image: str) -> None:
    lines = (DEPLOY / "docker" / f"{image}.Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("ARG PYTHON=")] == ["ARG PYTHON=3.11.13-slim-bookworm"]
    assert [line for line in lines if line.startswith("FROM")] == [
        "FROM python:${PYTHON} AS build",
        "FROM python:${PYTHON}",
    ]
    assert "USER 10001:10001" in lines[lines.index("FROM python:${PYTHON}") :]


@pytest.mark.parametrize("image", ["gateway", "router", "worker"])
def test_hadolint_finds_nothing(image: str) -> None:
    command = [program("hadolint"), str(DEPLOY / "docker" / f"{image}.Dockerfile")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "")


def test_the_bus_lets_each_user_do_what_the_code_says() -> None:
    assert FILE.read_text() == conf(), "python -m deploy.nats_conf"


def test_secrets_stay_and_are_all_that_the_bus_and_the_services_need(secrets: Path, compose: dict[str, Any]) -> None:
    first = {path.name: path.read_text() for path in secrets.iterdir()}
    subprocess.run(["sh", str(DEPLOY / "secrets.sh"), str(secrets)], check=True)
    assert {path.name: path.read_text() for path in secrets.iterdir()} == first
    assert {Path(secret["file"]).name for secret in compose["secrets"].values()} <= set(first)
    assert first["passwords.conf"] == "".join(
        f'{password_name(user)}: "{first[f"bus_{user}"]}"\n' for user in PERMISSIONS
    )
    assert secrets.stat().st_mode & 0o077 == 0
    assert len(set(first.values())) == len(first)


def test_the_server_takes_the_configuration(secrets: Path, tmp_path: Path) -> None:
    shutil.copy(FILE, tmp_path / "nats.conf")
    shutil.copy(secrets / "passwords.conf", tmp_path)
    command = [program("nats-server"), "-t", "-c", str(tmp_path / "nats.conf"), "-js", "-sd", str(tmp_path / "data")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert ended.returncode == 0, ended.stderr


def test_mounted_files_are_there(compose: dict[str, Any]) -> None:
    volumes = [volume for service in compose["services"].values() for volume in service.get("volumes", ())]
    files = {volume.partition(":")[0] for volume in volumes if volume.startswith("./")} - {"./models"}
    assert files and [file for file in files if not (DEPLOY / file).exists()] == []
    assert yaml.safe_load((DEPLOY / "otel-collector.yaml").read_text())["service"]["pipelines"]["traces"]
