"""What changing models costs: from the decision to the first operation that may run, and as a client sees it.

python -m benchmarks.switch [--models smollm2-135m gemma3-270m] [--repeats 30] [--link-bandwidth 2GiB/s]

Each way of bringing weights in is the worker's own (`gpu_worker/loader.py`), on the demo models in bfloat16. The floor
is one copy of the same bytes by the same threads, in turns with the plain switch. Over the emulated link, the first
step is a prompt of 128 tokens: streamed, it begins at once; plain, it waits for the copy. What others do at a switch is
printed beside it: `from_pretrained` in a running process, and a new process that does it.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence

import torch
import transformers

from benchmarks.markdown import save_page
from benchmarks.models import LoadedModel, load_demo
from benchmarks.report import circumstances, save
from benchmarks.switch import client, first_step, interference, tables, waits
from benchmarks.switch.reloaded import ROUTER_RUN, reloaded
from benchmarks.switch.stage import MAX_TOKENS, PROMPT_TOKENS
from benchmarks.switch.timings import Timings
from shared.units import format_size, parse_size

_SWITCH_INTERVAL_S = 0.0002  # as in a worker, whose loop and copies share the interpreter with its steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs=2, default=["smollm2-135m", "gemma3-270m"])
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--link-bandwidth", default="2GiB/s")
    options = parser.parse_args()
    link = parse_size(options.link_bandwidth.removesuffix("/s"))
    print(circumstances())
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    transformers.utils.logging.disable_progress_bar()
    models = [load_demo(name, "bfloat16", 1, MAX_TOKENS) for name in options.models]
    asyncio.run(run(models, options.repeats, link))


async def run(models: Sequence[LoadedModel], repeats: int, link: int) -> None:
    waited, reloads, steps, beside, seen = (Timings() for _ in range(5))
    few = max(3, repeats // 10)  # of what takes seconds
    await waits.copied(models, repeats, waited)
    await waits.resident(models, repeats, waited)
    await waits.prefetched(models, repeats, link, waited)
    waits.unified(models, repeats, waited)
    await waits.from_disk(models, repeats, waited)
    reloaded(models, few, reloads)
    await first_step.first_step(models, repeats, link, steps)
    await interference.wrong_prefetch(models, max(3, repeats // 2), link, beside)
    interference.steps_beside_a_copy(models, repeats, link, beside)
    await client.first_tokens(models, repeats, link, seen)
    for model in models:
        model.executor.release()
    await client.first_tokens_from_disk(models, repeats, seen)
    link_text = f"a link of {format_size(link)}/s"
    paragraphs = [
        f"Milliseconds from the decision to the first operation that may run, medians of {repeats}:",
        tables.waits_table(models, waited),
        "What a client of the worker sees of each kind of switch: milliseconds from its request to its first token, "
        f"and how long the device stood still for the switch, medians of {repeats}. In it: queue, "
        f"switch, prefill of {PROMPT_TOKENS} tokens, sampling, messages in memory; not in it: gateway, NATS, router. "
        f"Streamed and prefetched come over {link_text}. Prefetched: the request comes while another model decodes, "
        "which goes on until the copy is there, and in turns with the prefill after it.",
        tables.client_table(models, seen),
        f"A first step of {PROMPT_TOKENS} tokens over {link_text}, in milliseconds, medians of {repeats}:",
        tables.steps_table(models, steps),
        f"What a copy at the pace of {link_text} costs others, medians of {beside.number()} and more. A turn comes "
        "while another model is on its way that came for nothing; a sequence decodes beside the copy of another model:",
        tables.interference_table(models, beside, link),
        f"What a switch costs where nothing is kept, in milliseconds, medians of {few}, and how much less the plain "
        "switch costs:",
        tables.reload_table(models, waited, reloads),
        ROUTER_RUN,
        "The published system reports 97 % less than restarting an engine (26.9 s to 0.8 s for 13B, its own devices).",
    ]
    print("\n\n".join(["", *paragraphs, ""]))
    named = {"waits": waited, "client": seen, "first step": steps, "beside a copy": beside, "reloaded": reloads}
    results = {name: timings.values_ms for name, timings in named.items()}
    print(save("switch", {"link_bytes_per_s": link, **results}))
    print(save_page("switch", "Switching models", paragraphs))


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
