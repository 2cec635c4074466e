"""What a scrape says, and who reads the state for it."""

import asyncio
import threading

import pytest

from shared.telemetry import OTHER, Label, Registry, Values
from tests.scrapes import samples


def test_what_happened_and_what_is() -> None:
    registry = Registry()
    steps = registry.counter("kottos_steps_total", "Steps.", ["model"])
    wait = registry.histogram("kottos_wait_seconds", "Waits.", buckets=(0.1, 1.0))
    used = {"device": 5.0, "host": 7.0}
    registry.gauge("kottos_used_bytes", "Used.", ["side"], lambda: (((side,), num) for side, num in used.items()))
    registry.count("kottos_frames_total", "Frames.", [], lambda: [((), 3.0)])
    steps.labels("a").inc(2)
    wait.observe(0.5)
    used["host"] = 8.0
    found = samples(registry.render())
    assert found["kottos_steps_total{a}"] == 2
    assert (found["kottos_wait_seconds_bucket{0.1}"], found["kottos_wait_seconds_bucket{1.0}"]) == (0, 1)
    assert found["kottos_wait_seconds_sum{}"] == 0.5
    assert (found["kottos_used_bytes{device}"], found["kottos_used_bytes{host}"]) == (5, 8)
    assert found["kottos_frames_total{}"] == 3


def test_two_registries_share_nothing() -> None:
    first, second = Registry(), Registry()
    first.counter("kottos_steps_total", "Steps.").inc()
    second.counter("kottos_steps_total", "Steps.")
    assert samples(second.render())["kottos_steps_total{}"] == 0


@pytest.mark.parametrize("name", ["kottos_steps", "kottos_steps_total"])
def test_a_counter_ends_in_total_and_is_made_once(name: str) -> None:
    registry = Registry()
    registry.gauge("kottos_steps", "Steps.", [], list)
    registry.counter("kottos_steps_total", "Steps.")
    with pytest.raises(ValueError, match=name):
        registry.counter(name, "Steps.")


def test_a_label_has_a_bound() -> None:
    label = Label(max_values=2)
    assert [label(value) for value in ("a", "b", "c", "a", "d")] == ["a", "b", OTHER, "a", OTHER]


def test_states_of_all_others_are_one_sum() -> None:
    registry, label = Registry(), Label(max_values=1)
    counts = {"a": 1.0, "b": 2.0, "c": 4.0}
    registry.count("kottos_frames_total", "Frames.", ["model"], lambda: (((label(m),), n) for m, n in counts.items()))
    assert registry.render().count(b"kottos_frames_total{") == 2
    found = samples(registry.render())
    assert (found["kottos_frames_total{a}"], found[f"kottos_frames_total{{{OTHER}}}"]) == (1, 6)


async def test_state_is_read_in_the_loop_and_at_once() -> None:
    registry, threads = Registry(), []

    def read() -> Values:
        threads.append(threading.current_thread())
        return [((), float(len(threads)))]

    registry.gauge("kottos_a", "A.", [], read)
    registry.gauge("kottos_b", "B.", [], read)
    registry.attach(asyncio.get_running_loop())
    found = samples(await asyncio.to_thread(registry.render))
    assert (found["kottos_a{}"], found["kottos_b{}"]) == (1, 2)
    assert threads == [threading.current_thread()] * 2


async def test_what_goes_wrong_in_the_loop_fails_the_scrape_alone() -> None:
    registry = Registry()
    registry.gauge("kottos_a", "A.", [], lambda: [((), 1 / 0)])
    registry.attach(asyncio.get_running_loop())
    with pytest.raises(ZeroDivisionError):
        await asyncio.to_thread(registry.render)
