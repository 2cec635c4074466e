"""Medians beside their goals."""

from collections.abc import Sequence
from typing import Final

from benchmarks.markdown import table
from benchmarks.models import LoadedModel
from benchmarks.switch.client import WAYS
from benchmarks.switch.reloaded import ROUTER
from benchmarks.switch.timings import Timings
from gpu_worker.device.cpu_transfer import SLICE_BYTES

PLAIN_GOAL: Final = 1.15  # of the floor
NOTHING_GOAL_MS: Final = 5.0  # where no byte has to move
STREAM_GOAL: Final = 0.8  # of copy, then step


def waits_table(models: Sequence[LoadedModel], timings: Timings) -> str:
    rows = []
    for model in models:
        medians = {way: timings.median(model.name, way) for way in timings.values_ms[model.name]}
        ratio = medians["plain"] / medians["floor"]
        rows.append(
            [
                f"{model.name}, {model.blob_bytes / 1e6:.0f} MB",
                f"{medians['floor']:.1f}",
                f"{medians['plain']:.1f}",
                f"{ratio:.2f} ({_verdict(ratio <= PLAIN_GOAL)})",
                *(
                    f"{medians[way]:.2f} ({_verdict(medians[way] < NOTHING_GOAL_MS)})"
                    for way in ("prefetched", "resident", "unified")
                ),
                f"{medians['from disk']:.0f}",
            ]
        )
    nothing = (f"{way} (goal {NOTHING_GOAL_MS:g})" for way in ("prefetched", "resident", "unified"))
    return table(["model", "floor", "plain", f"ratio (goal {PLAIN_GOAL})", *nothing, "from disk"], rows)


def client_table(models: Sequence[LoadedModel], timings: Timings) -> str:
    rows = []
    for model in models:
        for quantity in ("TTFT", "waited"):
            medians = (timings.median(model.name, f"{way} {quantity}") for way in WAYS)
            label = "TTFT" if quantity == "TTFT" else "device waited"
            rows.append([model.name, label, *(f"{ms:.0f}" if ms >= 10 else f"{ms:.2f}" for ms in medians)])
    return table(["model", "", *WAYS], rows)


def steps_table(models: Sequence[LoadedModel], timings: Timings) -> str:
    rows = []
    for model in models:
        parts = ("copy", "step", "copy, then step", "streamed")
        medians = {part: timings.median(model.name, part) for part in parts}
        ratio = medians["streamed"] / medians["copy, then step"]
        best = max(medians["copy"], medians["step"]) / (medians["copy"] + medians["step"])
        rows.append(
            [
                model.name,
                *(f"{medians[part]:.0f}" for part in parts),
                f"{ratio:.2f} ({_verdict(ratio <= STREAM_GOAL)})",
                f"{best:.2f}",
            ]
        )
    titles = ["copy", "step", "copy, then step", "streamed", f"ratio (goal {STREAM_GOAL})", "max(copy, step) / sum"]
    return table(["model", *titles], rows)


def interference_table(models: Sequence[LoadedModel], timings: Timings, link_bytes_per_s: float) -> str:
    floors = {"wait": f"{SLICE_BYTES / link_bytes_per_s * 1e3:.2f}, a slice", "first step": "alone", "decode": "alone"}
    labels = {
        "wait": "until the first operation of a turn may run",
        "first step": "until the end of its first step",
        "decode": "a decode step of a running sequence",
    }
    rows = []
    for model in models:
        for what, label in labels.items():
            alone, beside = (timings.median(model.name, f"{what} {how}") for how in ("alone", "beside"))
            rows.append([model.name, label, f"{alone:.2f}", f"{beside:.2f}", f"{beside - alone:+.2f}", floors[what]])
    return table(["model", "ms", "alone", "beside a copy", "more", "floor"], rows)


def reload_table(models: Sequence[LoadedModel], waits: Timings, reloads: Timings) -> str:
    rows = []
    for model in models:
        plain_ms = waits.median(model.name, "plain")
        ways = {way: reloads.median(model.name, way) for way in ("from_pretrained", "new process")}
        rows += [[model.name, way, f"{ms:.0f}", f"{1 - plain_ms / ms:.1%}"] for way, ms in ways.items()]
        if (reported := ROUTER.get(model.name)) is not None:
            rows.append([model.name, "llama-server's router (reported)", f"{reported.cost_ms}", ""])
    return table(["model", "way", "ms", "less"], rows)


def _verdict(is_met: bool) -> str:
    return "met" if is_met else "missed"
