"""Service levels in the configuration: defaults, and where a model differs from them."""

import reprlib
from collections.abc import Container, Iterable, Mapping
from typing import Literal

import msgspec

from shared.slo import DEFAULT_TBT_S, DEFAULT_TTFT_S, Priority, ServiceLevel, Slo, TbtSeconds, TtftSeconds

LevelKey = Literal["ttft_s", "tbt_s", "priority"]


class LevelChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """None: the default."""

    ttft_s: TtftSeconds | None = None
    tbt_s: TbtSeconds | None = None
    priority: Priority | None = None


class ModelLevel(msgspec.Struct, frozen=True):
    """Where one model differs from the defaults. Its text form is NAME=KEY:NUMBER,KEY:NUMBER."""

    name: str
    change: LevelChange

    def __str__(self) -> str:
        fields = ((key, getattr(self.change, key)) for key in LevelChange.__struct_fields__)
        return f"{self.name}={','.join(f'{key}:{value}' for key, value in fields if value is not None)}"


class SloConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ttft_s: TtftSeconds = DEFAULT_TTFT_S  # from a request's arrival to its first token
    tbt_s: TbtSeconds = DEFAULT_TBT_S  # from one token to the next
    priority: Priority = 0  # lower is served first
    models: tuple[ModelLevel, ...] = ()


class Levels:
    """What requests get that ask for nothing else, by model."""

    def __init__(self, config: SloConfig) -> None:
        default = LevelChange(config.ttft_s, config.tbt_s, config.priority)
        self._default = changed(ServiceLevel(), default)
        self._own = {own.name: changed(self._default, own.change) for own in config.models}
        self._now: dict[str, ServiceLevel] = {}  # of models that are served, by the catalogue in force

    def follow(self, changes: Mapping[str, LevelChange]) -> None:
        """From now on these models differ from what is configured for them."""
        self._now = {name: changed(self.configured(name), change) for name, change in changes.items()}

    def configured(self, model: str) -> ServiceLevel:
        return self._own.get(model, self._default)

    def __getitem__(self, model: str) -> ServiceLevel:
        return self._now.get(model) or self.configured(model)

    def without_model(self, models: Container[str]) -> list[str]:
        """Names with a level of their own that none of the models has: to come, or misspelt."""
        return [name for name in self._own if name not in models]


def changed(level: ServiceLevel, change: LevelChange) -> ServiceLevel:
    slo, priority = level.slo, level.priority
    return ServiceLevel(
        Slo(
            slo.ttft_s if change.ttft_s is None else change.ttft_s,
            slo.tbt_s if change.tbt_s is None else change.tbt_s,
        ),
        priority if change.priority is None else change.priority,
    )


def parse_model_levels(value: object) -> tuple[ModelLevel, ...]:
    """A table of tables, the text forms joined by ';', or a sequence of them. Raises ValueError."""
    if isinstance(value, Mapping):
        table = msgspec.convert(value, dict[str, LevelChange])
        return _checked(ModelLevel(name, change) for name, change in table.items())
    texts = value.split(";") if isinstance(value, str) else msgspec.convert(value, list[str])
    return _checked(map(_parse, texts))


def _parse(text: str) -> ModelLevel:
    name, equals, changes = text.partition("=")
    pairs = [pair.partition(":") for pair in changes.split(",") if pair.strip()]
    if not equals or not all(colon for _, colon, _ in pairs):
        raise ValueError(f"expected NAME=KEY:NUMBER,KEY:NUMBER, got {reprlib.repr(text)}")
    keys = [key.strip() for key, _, _ in pairs]
    if len({*keys}) < len(keys):
        raise ValueError(f"a key is given twice in {reprlib.repr(text)}")
    fields = {key: number.strip() for key, (_, _, number) in zip(keys, pairs, strict=True)}
    return ModelLevel(name.strip(), msgspec.convert(fields, LevelChange, strict=False))


def _checked(levels: Iterable[ModelLevel]) -> tuple[ModelLevel, ...]:
    found = tuple(levels)
    names = [level.name for level in found]
    for name in names:
        if not name or not name.isprintable() or set(name) & set("=;"):
            raise ValueError(f"{reprlib.repr(name)} is no model's name")
        if names.count(name) > 1:
            raise ValueError(f"the model {reprlib.repr(name)} is given twice")
    return found
