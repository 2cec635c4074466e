"""What is sent, and when: the same for the same seed. Pure."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

_WORDS: Final = """
time year people way day man thing woman life child world school state family student group country problem hand part
place case week company system program question work number night point home water room mother area money story fact
month lot right study book eye job word business issue side kind head house service friend father power hour game line
end member law car city community name
""".split()  # noqa: SIM905  # a list of literals would take a page


class Range(NamedTuple):
    """Both ends are in it."""

    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Load:
    models: Sequence[str]  # in turns
    num_requests: int
    prompt_words: Range
    output_tokens: Range
    rate: float | None = None  # requests per second, as a Poisson process; None: as soon as another one has ended
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Planned:
    index: int
    at_s: float | None  # after the start; None: as soon as there is room
    model: str
    prompt: str
    num_output_tokens: int


def parse_range(text: str) -> Range:
    """'128' or '64-256'. Raises ValueError."""
    least, dash, most = text.partition("-")
    found = Range(int(least), int(most if dash else least))
    if not 1 <= found.least <= found.most <= 1 << 20:
        raise ValueError(f"{text} is no range of lengths")
    return found


def planned(load: Load) -> Iterator[Planned]:
    chance = random.Random(load.seed)
    at_s = 0.0
    for index in range(load.num_requests):
        words = chance.choices(_WORDS, k=chance.randint(*load.prompt_words))
        num_output_tokens = chance.randint(*load.output_tokens)
        arrives_at_s = None if load.rate is None else at_s
        yield Planned(index, arrives_at_s, load.models[index % len(load.models)], " ".join(words), num_output_tokens)
        if load.rate is not None:
            at_s += chance.expovariate(load.rate)
