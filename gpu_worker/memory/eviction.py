"""Whom to evict where models differ in size: the choice after which the fewest bytes are copied in the round to come.

Belady's rule is the best one for equal sizes. For others it is not: it may evict a large model, back in a few turns,
though a small one would do. The order of the coming turns is known, so each choice is followed through one round.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gpu_worker.memory.arena import Arena, eviction_choices, plan_eviction
from shared.ids import ModelName

_MAX_TURNS: Final = 16  # that are followed: what comes later weighs little, and the loop has to go on


@dataclass(frozen=True, slots=True)
class Place:
    """What is known of a model's weights, resident or not."""

    num_bytes: int
    last_offset: int | None


def plan_cheapest_eviction(
    arena: Arena,
    model: ModelName,
    places: Mapping[ModelName, Place],
    residents: Sequence[tuple[ModelName, int]],
    turns: Sequence[ModelName],
) -> list[ModelName] | None:
    """As `plan_eviction` for `model`, and exactly that where sizes are equal or no choice costs fewer bytes.

    places: of every model that ever had one, and of `model`. residents: (model, offset), as for `plan_eviction`.
    turns: whose turns come after the one of `model`, soonest first; who is not among them has no work.
    """
    num_bytes = places[model].num_bytes
    belady = plan_eviction(arena, num_bytes, residents)
    if not belady or len({arena.rounded(place.num_bytes) for place in places.values()}) == 1:
        return belady
    names = {offset: name for name, offset in residents}
    choices = [[names[offset] for offset in offsets] for offsets in eviction_choices(arena, num_bytes, set(names))]
    ahead = _Round(arena, model, places, dict(residents), turns[:_MAX_TURNS])
    return min([belady, *choices], key=ahead.copied_bytes)  # the first of equals


@dataclass(frozen=True, slots=True)
class _Round:
    """The turns from that of `model` to its next one, both included."""

    arena: Arena
    model: ModelName
    places: Mapping[ModelName, Place]
    offsets: Mapping[ModelName, int]  # of residents that may go, whose turn comes soonest first
    turns: Sequence[ModelName]

    def copied_bytes(self, evicted: Sequence[ModelName]) -> int:
        """By all models but the first, if it evicts these and each further choice is Belady's."""
        arena, offsets = self.arena.copy(), dict(self.offsets)
        idle = [name for name in offsets if name not in self.turns]
        self._bring(arena, offsets, self.model, evicted)
        copied_bytes = 0
        cycle = [*self.turns, self.model]
        for turn, name in enumerate(cycle):
            if name in offsets or name not in self.places:
                continue
            order = [*cycle[turn + 1 :], *cycle[:turn], *idle]
            residents = [(other, offsets[other]) for other in order if other in offsets]
            evicted_then = plan_eviction(arena, self.places[name].num_bytes, residents)
            if evicted_then is not None:
                self._bring(arena, offsets, name, evicted_then)
                copied_bytes += self.places[name].num_bytes
        return copied_bytes

    def _bring(
        self, arena: Arena, offsets: dict[ModelName, int], name: ModelName, evicted: Sequence[ModelName]
    ) -> None:
        for other in evicted:
            arena.free(offsets.pop(other))
        place = self.places[name]
        offset = arena.allocate(place.num_bytes, place.last_offset)
        assert offset is not None, "what was evicted made room"
        offsets[name] = offset
