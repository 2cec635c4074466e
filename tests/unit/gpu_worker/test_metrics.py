"""What the engine's calls become. What a scrape reads of a worker's state: tests/integration/test_worker_metrics.py."""

from typing import Any, cast

import pytest

from gpu_worker.metrics import EngineMetrics
from gpu_worker.sequence import Sequence
from gpu_worker.served_model import ServedModel
from shared.ids import ModelName
from shared.messages import ModelSwitched
from shared.telemetry import Registry
from tests.scrapes import samples
from tests.unit.gpu_worker.stand_ins import WORKER, served_model, submit

A, B = ModelName("a"), ModelName("b")


class Measured:
    def __init__(self) -> None:
        self.registry = Registry()
        self.metrics = EngineMetrics(self.registry)

    def __getitem__(self, name: str) -> float:
        return samples(self.registry.render()).get(name, 0.0)


@pytest.fixture
def measured() -> Measured:
    return Measured()


def with_work(model: ServedModel) -> ServedModel:
    model.waiting.add(Sequence(submit(), now_s=0.0))
    return model


def test_a_step_counts_its_tokens_by_phase(measured: Measured) -> None:
    measured.metrics.stepped(A, num_prefill_tokens=30, num_decode_tokens=2, took_s=0.5)
    measured.metrics.stepped(A, num_prefill_tokens=0, num_decode_tokens=3, took_s=0.25)
    assert (measured["kottos_steps_total{a}"], measured["kottos_step_seconds_count{a}"]) == (2, 2)
    assert measured["kottos_step_seconds_sum{a}"] == 0.75
    tokens = "kottos_step_tokens_total"
    assert (measured[f"{tokens}{{a,prefill}}"], measured[f"{tokens}{{a,decode}}"]) == (30, 5)


def test_a_switch_by_its_kind(measured: Measured) -> None:
    for kind, num_bytes, waited_s, overlapped_s in (("copied", 7, 2.0, 0.0), ("prefetched", 9, 0.25, 1.5)):
        event = ModelSwitched(WORKER, A, B, cast(Any, kind), num_bytes, waited_s, overlapped_s)
        measured.metrics.switched(event)
    assert (measured["kottos_switches_total{copied}"], measured["kottos_switch_bytes_total{copied}"]) == (1, 7)
    assert measured["kottos_switch_seconds_sum{prefetched}"] == 0.25
    assert measured["kottos_switch_overlapped_seconds_total{}"] == 1.5


def test_a_model_waits_from_its_work_and_from_its_last_step(measured: Measured) -> None:
    models = {A: with_work(served_model(A)[0]), B: served_model(B)[0]}
    measured.metrics.note_work(models, now_s=1.0)
    measured.metrics.note_work(models, now_s=2.0)
    measured.metrics.took_turn(A, now_s=4.0)
    assert measured["kottos_model_wait_seconds_sum{a}"] == 3.0
    measured.metrics.note_work(models, now_s=5.0)
    measured.metrics.took_turn(A, now_s=5.5)
    assert measured["kottos_model_wait_seconds_sum{a}"] == 3.5
    assert measured["kottos_model_wait_seconds_count{a}"] == 2


def test_a_model_that_loses_its_work_waits_no_more(measured: Measured) -> None:
    model = with_work(served_model(A)[0])
    measured.metrics.note_work({A: model}, now_s=1.0)
    model.stop(next(iter(model.waiting)))
    measured.metrics.note_work({A: model}, now_s=2.0)
    measured.metrics.note_work({A: with_work(model)}, now_s=10.0)
    measured.metrics.took_turn(A, now_s=11.0)
    assert measured["kottos_model_wait_seconds_sum{a}"] == 1.0
