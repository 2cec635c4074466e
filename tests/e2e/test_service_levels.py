"""Service levels of `kottos serve`: from its flags and from requests, to what each token is measured by."""

from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.served import Served, serve
from shared import subjects
from shared.bus import NatsBus
from shared.messages import RequestFinished
from tests.e2e.driving import bus_config, complete, complete_streaming, open_client
from tests.integration.tiny_models import TinyModels
from tests.recorder import Recorder

NEVER_LATE = {"ttft_s": 86_400, "tbt_s": 3_600}
ALWAYS_LATE = {"ttft_s": 1e-6, "tbt_s": 1e-6}
NUM_TOKENS = 8


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_models: TinyModels) -> Iterator[Served]:
    folder, model = tmp_path_factory.mktemp("levels"), tiny_models.source("llama").path
    flags = ["--model", f"tiny={model}", "--ttft", "7", "--tbt", "0.5", "--slo", "tiny=tbt_s:0.25,priority:-1"]
    settings = {"KOTTOS_CACHE": str(tiny_models.cache_dir), "KOTTOS_WORKER_KV_MEMORY": "64MiB"}
    with serve(*flags, log_path=folder / "log", settings=settings) as served:
        yield served


async def test_every_token_is_on_time_or_late_by_the_level_of_its_request(served: Served) -> None:
    fields: dict[str, Any] = {"ignore_eos": True, "return_token_ids": True}
    events, bus = Recorder(), NatsBus(bus_config(served), "test")
    await bus.start()
    await bus.subscribe(subjects.EVENT_REQUEST_FINISHED, events)
    async with open_client(served) as client:
        shown: Any = await client.models.retrieve("tiny")
        assert (shown.slo, shown.priority, shown.attainment) == ({"ttft_s": 7.0, "tbt_s": 0.25}, -1, None)
        for ask in (complete, complete_streaming):
            for level, num_on_time in ((NEVER_LATE, NUM_TOKENS), (ALWAYS_LATE, 0)):
                await ask(client, "tiny", "The quick", max_tokens=NUM_TOKENS, extra_body=fields | level)
                finished = (await events.wait_for(1)).pop()
                assert isinstance(finished, RequestFinished)
                assert (finished.num_due_tokens, finished.num_on_time_tokens) == (NUM_TOKENS, num_on_time)
        shown = await client.models.retrieve("tiny")
        assert shown.attainment == 0.5
    await bus.close()
