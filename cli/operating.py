"""From the options of `kottos models` to an operator on the bus of a stack."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from cli.client_env import OPERATOR_ENV, read_env
from cli.operator import Operator
from cli.run_dir import live_run_dirs
from shared.bus import NatsBus
from shared.config import BusConfig, load_config
from shared.errors import BusUnavailable, ConfigError, KottosError
from shared.levels import LevelChange, LevelKey

T = TypeVar("T")


def operate(env: Path | None, work: Callable[[Operator], Coroutine[Any, Any, T]], timeout_s: float) -> T:
    """Raises KottosError."""

    async def run() -> T:
        operator = Operator(NatsBus(bus_config(env), "operator"))
        async with operator.listening(), asyncio.timeout(timeout_s):
            return await work(operator)

    try:
        return asyncio.run(run())
    except TimeoutError:
        raise KottosError(f"not done after {timeout_s:g} s; `kottos models list` shows how far it is") from None


def bus_config(env: Path | None) -> BusConfig:
    """Raises ConfigError, BusUnavailable."""
    if env is not None:
        return read_env(env)
    configured = load_config().bus
    if configured.url:
        return configured
    folders = [folder for folder in live_run_dirs() if (folder / OPERATOR_ENV).exists()]
    how = f"give --env RUN_FOLDER/{OPERATOR_ENV}, or set bus.url"
    if not folders:
        raise BusUnavailable(f"no stack with its own bus runs here: {how}")
    if len(folders) > 1:
        raise ConfigError(f"{len(folders)} stacks run here: {how}")
    return read_env(folders[0] / OPERATOR_ENV)


def parse_level(fields: Mapping[LevelKey, str]) -> LevelChange:
    """Raises ConfigError."""
    try:
        return msgspec.convert(fields, LevelChange, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"service level: {str(error).replace('`', '')}") from None
