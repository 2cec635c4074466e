"""The routes of administrators, with the steward that keeps what they change."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import openai
import pytest

from cli.steward import Steward
from gateway.fleet.fleet_news import MAX_LISTENERS
from shared import subjects
from shared.catalogue import described
from shared.config import ModelSource
from shared.ids import Incarnation, ModelName, WorkerId
from shared.levels import LevelChange
from shared.messages import Catalogue, Ended, LoadModel, ModelSwitched, Submit, UnloadModel, WorkerCame, WorkerWent
from shared.slo import Slo
from tests.integration.gateway_harness import ASLEEP, BASE, CHAT, Stack, encode, make_key, open_stack
from tests.integration.scripted_worker import WORKER
from tests.unit.gateway.tiny_models import write_source

ADMIN_KEY, OTHER_KEY = "sk-kottos-admin-0123456789", "sk-kottos-other-0123456789"
PROMPT = "a secret that nobody else may read"


class Admin:
    def __init__(self, stack: Stack, http: aiohttp.ClientSession) -> None:
        self.stack = stack
        self._http = http
        self.kept: list[Catalogue] = []

    async def __call__(self, method: str, path: str, body: object = None, status: int = 200, **headers: str) -> Any:
        data = None if body is None else msgspec.json.encode(body)
        async with self._http.request(method, f"/admin/{path}", data=data, headers=headers) as response:
            text = await response.text()
            assert response.status == status, text
            return msgspec.json.decode(text)


@asynccontextmanager
async def open_admin(folder: Path, keep: Any = None) -> AsyncIterator[Admin]:
    async with open_stack(folder) as stack, aiohttp.ClientSession(stack.url) as http:
        admin = Admin(stack, http)
        models = described([ModelSource(name, str(folder / "sources" / name)) for name in (CHAT, BASE, ASLEEP)])
        steward = Steward(stack.broker.connect("steward"), models, keep=keep or admin.kept.append)
        running = asyncio.create_task(steward.run())
        async with asyncio.timeout(10):
            while "error" in await ask_catalogue(admin):
                pass
        try:
            yield admin
        finally:
            running.cancel()
            await asyncio.wait([running])


async def ask_catalogue(admin: Admin) -> Any:
    """An answer of the steward, whatever it is, says that it listens."""
    async with admin._http.post("/admin/workers/nobody/resume") as response:
        return msgspec.json.decode(await response.read())


@pytest.fixture
async def admin(tmp_path: Path) -> AsyncIterator[Admin]:
    async with open_admin(tmp_path) as opened:
        yield opened


async def served(admin: Admin) -> dict[str, Any]:
    """As every client sees it."""
    async with admin._http.get("/v1/models") as response:
        return {model["id"]: model for model in msgspec.json.decode(await response.read())["data"]}


# --- models -------------------------------------------------------------------------------------


async def test_models_and_their_workers(admin: Admin, tmp_path: Path) -> None:
    listed = await admin("GET", "models")
    assert [model["id"] for model in listed["data"]] == [CHAT, BASE, ASLEEP]
    model = await admin("GET", f"models/{CHAT}")
    assert model == {
        "id": CHAT, "object": "model", "path": str(tmp_path / "sources" / CHAT), "state": "resident", "pinned": False,
        "slo": {"ttft_s": 4.0, "tbt_s": 0.1}, "priority": 2,
        "changed": {"ttft_s": None, "tbt_s": None, "priority": None},
        "workers": {
            WORKER: {"state": "resident", "num_running": 0, "num_waiting": 0, "progress": None, "reason": ""}
        },
    }  # fmt: skip
    assert (await admin("GET", f"models/{ASLEEP}"))["workers"] == {}
    await admin("GET", "models/no-such-model", status=404)


async def test_a_model_is_added_and_removed(admin: Admin, tmp_path: Path) -> None:
    new = write_source(tmp_path / "new", "org/new")
    made = await admin("POST", "models", {"id": new.name, "path": new.path}, status=202)
    assert (made["id"], made["path"], made["state"]) == (new.name, new.path, "loading")
    assert set(await served(admin)) == {CHAT, BASE, ASLEEP, new.name}
    await admin("POST", "models", {"id": new.name, "path": new.path}, status=202)  # said twice
    other = await admin("POST", "models", {"id": BASE, "path": new.path}, status=400)
    assert "remove it first" in other["error"]["message"]
    assert [len(catalogue.models) for catalogue in admin.kept] == [4]

    assert await admin("DELETE", f"models/{new.name}") == {"id": new.name, "deleted": True, "object": "model"}
    assert set(await served(admin)) == {CHAT, BASE, ASLEEP}
    await admin("DELETE", f"models/{new.name}", status=404)
    await admin("DELETE", f"models/{BASE}")
    async with admin.stack.client() as client:
        with pytest.raises(openai.NotFoundError):
            await client.completions.create(model=BASE, prompt="fox")


async def test_a_bad_addition_is_refused_and_changes_nothing(admin: Admin) -> None:
    bodies: list[tuple[object, str | None]] = [
        ({"id": "new", "path": "/no/where"}, "path"),
        ({"id": "new", "path": "a\0b"}, "path"),
        ({"id": "new", "path": "x" * 5000}, "path"),
        ({"id": "new", "path": "~nobody-of-this-name/x"}, "path"),
        ({"id": "a=b", "path": "/tmp"}, "id"),
        ({"id": "new"}, "path"),
        ({"id": "new", "path": 3}, "path"),
        ({"id": "new", "path": "/tmp", "pined": True}, None),
        ([], None),
    ]
    for body, param in bodies:
        refused = await admin("POST", "models", body, status=400)
        assert refused["error"]["param"] == param, body
    assert admin.kept == [] and len(await served(admin)) == 3


async def test_weights_are_loaded_and_unloaded_by_workers(admin: Admin) -> None:
    """CHAT has a slash in its name."""
    worker = admin.stack.worker
    loaded = await admin("POST", f"models/{CHAT}/load", status=202)
    assert (loaded["id"], loaded["workers"][WORKER]["state"]) == (CHAT, "resident")
    await admin("POST", f"models/{BASE}/unload?worker={WORKER}", status=202)
    assert worker.heard == [LoadModel(ModelName(CHAT)), UnloadModel(ModelName(BASE))]
    assert admin.kept == []  # nothing is served otherwise

    for path in (f"models/{ASLEEP}/load", f"models/{BASE}/load?worker=nobody", f"models/{BASE}/unload?worker=nobody"):
        refused = await admin("POST", path, status=503)
        assert refused["error"]["code"] == "unavailable"
    await admin("POST", "models/no-such-model/load", status=404)


async def test_a_pinned_model_is_not_unloaded(admin: Admin) -> None:
    await admin("POST", f"models/{CHAT}/pin")
    refused = await admin("POST", f"models/{CHAT}/unload", status=409)
    assert (refused["error"]["code"], "unpin" in refused["error"]["message"]) == ("conflict", True)
    await admin("POST", f"models/{CHAT}/unpin")
    admin.stack.worker.refusal = "the model is pinned"  # by another gateway, just now
    refused = await admin("POST", f"models/{CHAT}/unload", status=409)
    assert "the model is pinned" in refused["error"]["message"]


async def test_a_models_level_is_changed_for_the_next_requests(admin: Admin) -> None:
    admin.stack.says(" dog")
    changed = await admin("PATCH", f"models/{BASE}", {"ttft_s": 1.5, "priority": -7})
    assert (changed["slo"], changed["priority"]) == ({"ttft_s": 1.5, "tbt_s": 0.1}, -7)
    assert (await served(admin))[BASE]["slo"] == {"ttft_s": 1.5, "tbt_s": 0.1}
    async with admin.stack.client() as client:
        await client.completions.create(model=BASE, prompt="fox")
        await client.completions.create(model=BASE, prompt="fox", extra_body={"ttft_s": 3.0, "priority": 1})
    submits = await admin.stack.worker.wait_for(Submit, 2)
    assert [(submit.slo, submit.priority) for submit in submits] == [(Slo(1.5, 0.1), -7), (Slo(3.0, 0.1), 1)]

    again = await admin("PATCH", f"models/{BASE}", {"ttft_s": None, "tbt_s": 0.5})
    assert (again["slo"], again["priority"]) == ({"ttft_s": 10.0, "tbt_s": 0.5}, -7)
    assert again["changed"] == {"ttft_s": None, "tbt_s": 0.5, "priority": -7}
    [_, last] = admin.kept
    assert [model.level for model in last.models if model.name == BASE] == [LevelChange(tbt_s=0.5, priority=-7)]


async def test_a_bad_level_is_refused(admin: Admin) -> None:
    for body in ({"ttft_s": 0}, {"tbt_s": "fast"}, {"priority": 2000}, {"ttft": 1.0}, None):
        await admin("PATCH", f"models/{BASE}", body, status=400)
    assert admin.kept == []


async def test_models_are_pinned_and_unpinned(admin: Admin) -> None:
    assert (await admin("POST", f"models/{CHAT}/pin"))["pinned"] is True
    assert (await admin("GET", f"models/{CHAT}"))["pinned"] is True
    assert (await admin("POST", f"models/{CHAT}/unpin"))["pinned"] is False
    await admin("POST", "models/no-such-model/pin", status=404)


async def test_what_can_not_be_kept_is_refused(tmp_path: Path) -> None:
    def full(catalogue: Catalogue) -> None:
        raise OSError(28, "No space left on device")

    async with open_admin(tmp_path, full) as admin:
        refused = await admin("DELETE", f"models/{BASE}", status=400)
        assert "can't be kept: No space left" in refused["error"]["message"]
        assert BASE in await served(admin)


async def test_without_a_steward_nothing_changes_and_all_can_be_seen(tmp_path: Path) -> None:
    async with open_stack(tmp_path) as stack, aiohttp.ClientSession(stack.url) as http:
        admin = Admin(stack, http)
        refused = await admin("DELETE", f"models/{BASE}", status=503)
        assert "kottos serve" in refused["error"]["message"]
        assert len((await admin("GET", "models"))["data"]) == 3


# --- workers and requests -----------------------------------------------------------------------


async def test_workers_are_listed_drained_and_resumed(admin: Admin) -> None:
    [worker] = (await admin("GET", "workers"))["data"]
    assert (worker["id"], worker["draining"], worker["silent_s"] < 10) == (WORKER, False, True)
    assert [(model["id"], model["state"]) for model in worker["models"]] == [(CHAT, "resident"), (BASE, "resident")]
    assert await admin("POST", f"workers/{WORKER}/drain") == {"id": WORKER, "draining": True, "object": "worker"}
    assert admin.kept[-1].drained == (WORKER,)
    await admin("POST", f"workers/{WORKER}/resume")
    assert admin.kept[-1].drained == ()
    await admin("POST", "workers/nobody/drain", status=404)


async def test_requests_in_flight_are_shown_without_what_they_say(admin: Admin) -> None:
    async with admin.stack.client() as client:
        asking = asyncio.create_task(client.completions.create(model=BASE, prompt=PROMPT, max_tokens=3))
        [submit] = await admin.stack.worker.wait_for(Submit)
        async with asyncio.timeout(10):
            while (shown := (await admin("GET", "requests"))["data"])[0]["phase"] != "queued":
                pass
        [request] = shown
        assert (request["request_id"], request["model"], request["tenant"]) == (submit.request_id, BASE, "local")
        assert (request["worker"], request["num_prompt_tokens"]) == (WORKER, len(submit.prompt))
        assert request["age_s"] > 0 and request["position"] == 1
        assert PROMPT not in msgspec.json.encode(shown).decode()
        await admin.stack.worker.say(submit.request_id, *encode("fox")[:1], ended=Ended("length"))
        await asking
        assert (await admin("GET", "requests"))["data"] == []


# --- events -------------------------------------------------------------------------------------


async def read_events(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    async for line in response.content:
        if line.startswith(b"data: "):
            yield msgspec.json.decode(line.removeprefix(b"data: "))


async def test_events_begin_with_what_is_and_go_on_with_what_happens(admin: Admin) -> None:
    life, bus = Incarnation("life-2"), admin.stack.worker.worker_bus
    async with admin._http.get("/admin/events") as response, asyncio.timeout(20):
        assert response.content_type == "text/event-stream"
        events = read_events(response)
        await admin.stack.worker.beat()
        first = [await anext(events) for _ in range(2)]
        assert [(event["type"], event["worker"], event["model"], event["state"]) for event in first] == [
            ("model", WORKER, CHAT, "resident"),
            ("model", WORKER, BASE, "resident"),
        ]
        await admin.stack.worker.beat()  # nothing new
        switched = ModelSwitched(WORKER, ModelName(BASE), ModelName(CHAT), "streamed", 100, 0.25, 0.5)
        await bus.publish(subjects.EVENT_MODEL_SWITCHED, switched)
        assert await anext(events) == {
            "type": "switch", "worker": WORKER, "model": BASE, "previous": CHAT, "kind": "streamed",
            "copied_bytes": 100, "waited_s": 0.25, "overlapped_s": 0.5,
        }  # fmt: skip
        other = WorkerId("worker-1")
        router = admin.stack.worker.bus
        await router.publish(subjects.EVENT_WORKER_CAME, WorkerCame(other, life))
        await router.publish(subjects.EVENT_WORKER_WENT, WorkerWent(other, life, "restarted"))
        came, went = await anext(events), await anext(events)
        assert (came["type"], came["worker"], came["state"]) == ("worker", other, "came")
        assert (went["state"], went["reason"]) == ("went", "restarted")


async def test_so_many_may_listen_and_whoever_leaves_makes_room(admin: Admin) -> None:
    responses = [await admin._http.get("/admin/events") for _ in range(MAX_LISTENERS)]
    async with admin._http.get("/admin/events") as response:
        assert response.status == 429
    responses.pop().close()
    async with asyncio.timeout(10):
        while True:
            async with admin._http.get("/admin/events") as response:
                if response.status == 200:
                    break
    for response in responses:
        response.close()


# --- who may ------------------------------------------------------------------------------------


async def test_with_keys_only_an_administrators_may(tmp_path: Path) -> None:
    make_key(tmp_path, "admin", ADMIN_KEY, is_admin=True)
    make_key(tmp_path, "other", OTHER_KEY)
    async with open_stack(tmp_path) as stack, aiohttp.ClientSession(stack.url) as http:
        admin = Admin(stack, http)
        for path in ("models", f"models/{BASE}", "workers", "requests", "events"):
            await admin("GET", path, status=401)
            refused = await admin("GET", path, status=403, Authorization=f"Bearer {OTHER_KEY}")
            assert refused["error"]["code"] == "permission_denied"
        await admin("DELETE", f"models/{BASE}", status=403, Authorization=f"Bearer {OTHER_KEY}")
        await admin("GET", "workers", Authorization=f"Bearer {ADMIN_KEY}")
        await admin("DELETE", f"models/{BASE}", status=503, Authorization=f"Bearer {ADMIN_KEY}")


async def test_without_keys_web_pages_may_not(admin: Admin) -> None:
    refused = await admin("DELETE", f"models/{BASE}", status=403, Origin="https://example.org")
    assert "web pages" in refused["error"]["message"]
    for headers in ({"Origin": "http://localhost:3000"}, {"Sec-Fetch-Site": "cross-site"}):
        await admin("POST", f"models/{BASE}/pin", status=403, **headers)  # a page may send that unasked
    await admin("DELETE", f"models/{BASE}", status=403, Host="rebound.example.org")
    assert admin.kept == []
    await admin("DELETE", f"models/{BASE}", Origin=admin.stack.url)
