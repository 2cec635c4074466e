"""A request's trace: from all processes that it went through, over OTLP, with the times that its client saw."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.served import Served, serve
from tests.e2e.driving import complete_streaming, open_client
from tests.integration.tiny_models import TinyModels
from tests.otlp_receiver import Received, Receiver, receiving

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACED, UNTRACED = f"00-{TRACE}-{CALLER}-01", f"00-0af7651916cd43dd8448eb211c80319c-{CALLER}-00"
PROMPT = "the canary of the coal mine"
NUM_TOKENS = 200
NUM_SPANS = 11  # and a turn more for each switch


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_models: TinyModels, receiver: Receiver) -> Iterator[Served]:
    settings = {
        "KOTTOS_CACHE": str(tiny_models.cache_dir),
        "KOTTOS_WORKER_KV_MEMORY": "64MiB",
        "KOTTOS_TELEMETRY_OTLP_ENDPOINT": receiver.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",  # milliseconds
        "NO_PROXY": "127.0.0.1",
    }
    sources = {"tiny": tiny_models.source("llama"), "other": tiny_models.source("gemma3")}
    models = [word for name, source in sources.items() for word in ("--model", f"{name}={source.path}")]
    log_path: Path = tmp_path_factory.mktemp("traces") / "log"
    with serve(*models, log_path=log_path, settings=settings) as served:
        yield served


async def test_a_trace_has_every_part_of_a_request(served: Served, receiver: Receiver) -> None:
    exactly = {"ignore_eos": True, "return_token_ids": True}
    async with open_client(served) as client:
        for header, model in ((UNTRACED, "other"), (TRACED, "tiny")):
            headers = {"traceparent": header}
            began_at_s = time.time()
            answer = await complete_streaming(
                client, model, PROMPT, max_tokens=NUM_TOKENS, extra_body=exactly, extra_headers=headers
            )
            took_s = time.time() - began_at_s
    spans = receiver.wait_for(lambda spans: len(spans) >= NUM_SPANS and {"decode", "write"} <= {s.name for s in spans})
    assert {span.trace_id for span in spans} == {TRACE}  # not the one whose caller is not traced
    of = {span.name: span for span in spans}
    assert tree(spans) == {
        "POST /v1/completions": ("kottos-gateway", CALLER),
        "tokenize": ("kottos-gateway", "POST /v1/completions"),
        "sequence": ("kottos-gateway", "POST /v1/completions"),
        "queue": ("kottos-gateway", "sequence"),
        "assign": ("kottos-router", "sequence"),
        "run": ("kottos-worker", "sequence"),
        "wait": ("kottos-worker", "run"),
        "prefill": ("kottos-worker", "run"),
        "decode": ("kottos-worker", "run"),
        "turn": ("kottos-worker", "run"),
        "write": ("kottos-gateway", "POST /v1/completions"),
    }
    root = of["POST /v1/completions"]
    assert root.attributes["gen_ai.usage.output_tokens"] == answer.num_output_tokens == NUM_TOKENS
    assert root.attributes["gen_ai.usage.input_tokens"] == len(answer.prompt_token_ids)
    assert (root.attributes["gen_ai.request.model"], root.attributes["http.response.status_code"]) == ("tiny", 200)
    turns = [span for span in spans if span.name == "turn"]
    assert sum(int(str(turn.attributes["kottos.prefill_tokens"])) for turn in turns) == len(answer.prompt_token_ids)
    assert sum(int(str(turn.attributes["kottos.decode_tokens"])) for turn in turns) == NUM_TOKENS - 1
    assert turns[0].attributes["kottos.switch.kind"] == "resident"
    assert of["run"].instance == of["sequence"].attributes["kottos.worker"]
    assert not any(PROMPT in str(span) or answer.text in str(span) for span in spans)
    # Its times are the client's: as a whole, and as the sum of what came one after the other.
    assert root.took_s == pytest.approx(took_s, rel=0.05)
    parts = ("tokenize", "queue", "wait", "prefill", "decode")
    assert sum(of[name].took_s for name in parts) == pytest.approx(took_s, rel=0.05)
    for name in ("tokenize", "sequence", "run", "write"):
        assert root.began_at_s <= of[name].began_at_s <= of[name].ended_at_s <= root.ended_at_s


def tree(spans: list[Received]) -> dict[str, tuple[str, str]]:
    """Span -> service, its parent's name, or id where that is not here."""
    names = {span.span_id: span.name for span in spans}
    return {span.name: (span.service, names.get(span.parent_id, span.parent_id)) for span in spans}
