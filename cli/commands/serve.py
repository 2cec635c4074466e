"""`kottos serve`: its options, which are settings by other names."""

from pathlib import Path
from typing import Annotated

import typer

from shared import log
from shared.config import CONFIG_VARIABLE, load_config, variable


def _help(text: str, key: str) -> str:
    return f"{text} Environment: {CONFIG_VARIABLE if key == 'config' else variable(key)}."


def serve(
    config: Annotated[Path | None, typer.Option(help=_help("TOML file with any of the settings.", "config"))] = None,
    host: Annotated[str | None, typer.Option(help=_help("Address to listen on.", "gateway.host"))] = None,
    port: Annotated[
        str | None, typer.Option(metavar="NUMBER", help=_help("Port to listen on; 0: any.", "gateway.port"))
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PATH", help=_help("Model folder, GGUF file or hub id; repeatable.", "models")),
    ] = None,
    demo: Annotated[bool | None, typer.Option("--demo", help=_help("Add the demo models.", "demo"))] = None,
    device: Annotated[str | None, typer.Option(help=_help("cpu or cuda.", "worker.device"))] = None,
    device_memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help=_help("Per worker, like 2GiB.", "worker.device_memory")),
    ] = None,
    host_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help=_help("For the host model cache.", "worker.host_memory"))
    ] = None,
    kv_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help=_help("For the KV pool, per worker.", "worker.kv_memory"))
    ] = None,
    link_bandwidth: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help=_help("Of an emulated link to the device memory, like 2GiB/s.", "worker.link_bandwidth"),
        ),
    ] = None,
    policy: Annotated[
        str | None, typer.Option(metavar="NAME", help=_help("Which model runs next, by this rule.", "worker.policy"))
    ] = None,
    dtype: Annotated[str | None, typer.Option(help=_help("bfloat16 or float32.", "worker.dtype"))] = None,
    workers: Annotated[
        str | None, typer.Option(metavar="NUMBER", help=_help("Worker processes.", "worker.num_workers"))
    ] = None,
    ttft: Annotated[
        str | None,
        typer.Option(metavar="SECONDS", help=_help("In which first tokens are due.", "slo.ttft_s")),
    ] = None,
    tbt: Annotated[
        str | None, typer.Option(metavar="SECONDS", help=_help("From one token to the next.", "slo.tbt_s"))
    ] = None,
    slo: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=ttft_s:SECONDS,...",
            help=_help("A model's own ttft_s, tbt_s or priority; repeatable.", "slo.models"),
        ),
    ] = None,
    nats: Annotated[
        str | None, typer.Option(metavar="URL", help=_help("Use this server, not the embedded one.", "bus.url"))
    ] = None,
    log_level: Annotated[str | None, typer.Option(help=_help("debug, info, warning or error.", "log_level"))] = None,
) -> None:
    """Serve models on this machine. Flags win over the environment, that over the file."""
    overrides: dict[str, object] = {
        "gateway.host": host,
        "gateway.port": port,
        "models": model,
        "demo": demo,
        "worker.device": device,
        "worker.device_memory": device_memory,
        "worker.host_memory": host_memory,
        "worker.kv_memory": kv_memory,
        "worker.link_bandwidth": link_bandwidth,
        "worker.policy": policy,
        "worker.dtype": dtype,
        "worker.num_workers": workers,
        "slo.ttft_s": ttft,
        "slo.tbt_s": tbt,
        "slo.models": slo,
        "bus.url": nats,
        "log_level": log_level,
    }
    loaded = load_config({key: value for key, value in overrides.items() if value not in (None, [])}, file=config)
    log.setup("serve", loaded.log_level, loaded.telemetry.log_format)
    from cli.serve import run  # its imports are not needed to show help

    run(loaded)
