"""Whether memory stays flat over 10,000 switches and 10,000 requests.

python -m benchmarks.flatness [--requests 10000] [--switches 10000] [--samples 100] [--only worker|stack|router]

Five tiny models with random weights, memory for two of them, so little KV memory that sequences are swapped out and in,
prompts that begin alike, and clients that leave early. First one worker on an in-memory bus in this process, whose
objects can be counted; then `kottos serve` with real requests over HTTP; then the router's decisions alone, as its
table of assignments has more places than that gets requests. Sizes are not times: any machine will do, and
one thread is enough; but PSS moves with what other processes share.
"""

import argparse
import asyncio
import tempfile
from pathlib import Path

import torch
import transformers

from benchmarks.flatness import one_worker, router_alone, whole_stack
from benchmarks.flatness.page import curves, sizes_table
from benchmarks.flatness.samples import Samples
from benchmarks.flatness.work import make_models
from benchmarks.markdown import save_page
from benchmarks.report import circumstances, save, save_text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--switches", type=int, default=10_000, help="of the worker alone, besides the requests")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--only", choices=["worker", "stack", "router"])
    options = parser.parse_args()
    print(circumstances())
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    every = max(1, options.requests // options.samples)
    with tempfile.TemporaryDirectory() as temp:
        sources = make_models(Path(temp))
        if options.only in (None, "worker"):
            samples, summary = asyncio.run(
                one_worker.run(sources, Path(temp) / "cache", options.requests, options.switches, every)
            )
            show("flatness-worker", "Memory of a worker", samples, summary)
        if options.only in (None, "stack"):
            samples, summary = asyncio.run(whole_stack.run(sources, Path(temp), options.requests, every))
            show("flatness-stack", "Memory of the whole stack", samples, summary)
    if options.only in (None, "router"):
        show("flatness-router", "Memory of the router", *router_alone.run(options.samples))


def show(name: str, title: str, samples: Samples, summary: str) -> None:
    paragraphs = [summary, sizes_table(samples), f"![{title}]({name}.svg)"]
    print("\n\n".join(["", *paragraphs, ""]))
    print(save(name, samples.columns()))
    print(save_text(f"{name}.svg", curves(samples, title)))
    print(save_page(name, title, paragraphs))


if __name__ == "__main__":
    main()
