"""The real Prometheus with our configuration, rules and dashboards, on a whole stack."""

import asyncio
import json
import re
import shutil
import subprocess
import urllib.parse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from deploy.grafana.make_dashboards import DASHBOARDS
from tests.integration.tiny_models import TinyModels
from tests.integration.whole_stack import USER_KEY, WholeStack, open_whole

DEPLOYED = Path(__file__).parents[2] / "deploy/prometheus"
WHY = "needs Debian's package prometheus: make tools"
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason=WHY)
needs_prometheus = pytest.mark.skipif(shutil.which("prometheus") is None, reason=WHY)
# vLLM's names are as they are.
ALLOWED = re.compile(r"vllm:\w+ metric names should not contain ':'")
TIMEOUT_S = 60.0


def promtool(*command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *command], input=stdin, capture_output=True, text=True, timeout=60, cwd=DEPLOYED)


@needs_promtool
@pytest.mark.parametrize(
    "command",
    [("check", "rules", "rules.yml"), ("check", "config", "prometheus.yml"), ("test", "rules", "rules_test.yml")],
)
def test_configuration_and_rules(command: tuple[str, ...]) -> None:
    ended = promtool(*command)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@needs_promtool
def test_a_broken_rule_would_show(tmp_path: Path) -> None:
    rules = (DEPLOYED / "rules.yml").read_text()
    (tmp_path / "rules.yml").write_text(rules.replace("kottos_bus_connected == 0", "kottos_bus_connected == 1"))
    shutil.copy(DEPLOYED / "rules_test.yml", tmp_path)
    ended = promtool("test", "rules", str(tmp_path / "rules_test.yml"))
    assert ended.returncode != 0 and "KottosBusDown" in ended.stdout + ended.stderr


@asynccontextmanager
async def prometheus(url: str, folder: Path) -> AsyncIterator[tuple[str, list[str]]]:
    """Where it answers, and what it has said so far. Configured as shipped, but more eager."""
    shutil.copy(DEPLOYED / "rules.yml", folder)
    config = (DEPLOYED / "prometheus.yml").read_text().replace("http://gateway:8000", url).replace("15s", "1s")
    (folder / "prometheus.yml").write_text(config)
    process = await asyncio.create_subprocess_exec(
        *("prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0"),
        cwd=folder,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    said: list[str] = []
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while not (
                found := re.search(r"Listening on.*address=(\S+)", line := (await process.stderr.readline()).decode())
            ):
                said.append(line)
                assert line, said
        reading = asyncio.create_task(_read(process.stderr, said))
        yield f"http://{found[1]}", said
        process.terminate()
        await reading
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _read(stream: asyncio.StreamReader, said: list[str]) -> None:
    async for line in stream:
        said.append(line.decode())


async def query(http: aiohttp.ClientSession, expression: str) -> list[dict[str, Any]]:
    async with http.get(f"/api/v1/query?query={urllib.parse.quote(expression)}") as response:
        answer = json.loads(await response.text())
    assert answer["status"] == "success", (expression, answer)
    result: list[dict[str, Any]] = answer["data"]["result"]
    return result


async def scraped(http: aiohttp.ClientSession) -> list[dict[str, Any]]:
    """All three services, once the rules have been evaluated, too."""
    while True:
        async with http.get("/-/ready") as response:
            if response.status != 200:
                await asyncio.sleep(0.2)
                continue
        up = await query(http, "up == 1")
        if len(up) == 3 and await query(http, "kottos:goodput:rate5m"):
            return up
        await asyncio.sleep(0.2)


async def a_request(whole: WholeStack) -> None:
    body = {"model": whole.model, "prompt": "The quick", "max_tokens": 4, "ignore_eos": True}
    headers = {"x-api-key": USER_KEY}
    async with (
        aiohttp.ClientSession(whole.url, headers=headers) as http,
        http.post("/v1/completions", json=body) as response,
    ):
        assert response.status == 200


@needs_prometheus
@needs_promtool
async def test_it_scrapes_every_service_without_a_warning(tiny_models: TinyModels, tmp_path: Path) -> None:
    async with open_whole(tiny_models, tmp_path / "state") as whole:
        await a_request(whole)
        for service, address in whole.addresses.items():
            async with aiohttp.ClientSession() as http, http.get(f"http://{address}/metrics") as response:
                checked = await asyncio.to_thread(promtool, "check", "metrics", stdin=await response.text())
            problems = [line for line in (checked.stdout + checked.stderr).splitlines() if not ALLOWED.fullmatch(line)]
            assert problems == [], service
        async with prometheus(whole.url, tmp_path) as (url, said), aiohttp.ClientSession(url) as http:
            async with asyncio.timeout(TIMEOUT_S):
                up = await scraped(http)
            assert {(row["metric"]["service"], row["metric"]["instance"]) for row in up} >= {
                ("router", "router"),
                ("worker", "worker-0"),
            }
            for dashboard in DASHBOARDS:
                for panel in dashboard.panels:
                    for asked in panel.queries:
                        await query(http, asked.expression.replace("$__rate_interval", "1m"))
            [tokens] = await query(http, "sum(kottos_output_tokens_total)")
            assert tokens["value"][1] == "4"
            assert [line for line in said if "level=warn" in line or "level=error" in line] == []
