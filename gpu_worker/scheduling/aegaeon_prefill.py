"""Grouped first come, first served prefill: Aegaeon (SOSP 2025, section 4), as published."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from gpu_worker.scheduling.policy import SequenceView
from shared.ids import ModelName, RequestId

MAX_GROUP_SIZE: Final = 8


@dataclass(eq=False, slots=True)
class Group:
    """Requests of one model that are prefilled one after the other, so that they share a switch."""

    model: ModelName
    num_joined: int = 0  # over its whole life: a group that is being prefilled can't hold the device for ever
    sequences: dict[RequestId, SequenceView] = field(default_factory=dict)  # whose prompts are not computed yet


class PrefillQueue:
    """The groups of one instance, in the order in which they get the device.

    A request joins the first group of its model that is not full, the one that is being prefilled included, else it
    opens a group at the tail. A group ends when all its prompts are computed.
    """

    def __init__(self) -> None:
        self._groups: OrderedDict[int, Group] = OrderedDict()  # by number
        self._num_opened = 0
        self._number_of: dict[RequestId, int] = {}
        self._open: dict[ModelName, int] = {}  # only a model's last group can be not full

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._number_of

    def add(self, model: ModelName, sequence: SequenceView) -> None:
        number = self._open.get(model)
        if number is None:
            self._num_opened += 1
            number = self._open[model] = self._num_opened
            self._groups[number] = Group(model)
        group = self._groups[number]
        group.sequences[sequence.request_id] = sequence
        group.num_joined += 1
        self._number_of[sequence.request_id] = number
        if group.num_joined == MAX_GROUP_SIZE:
            del self._open[model]

    def remove(self, sequence: SequenceView) -> None:
        """Its prompt is computed, or it is gone."""
        number = self._number_of.pop(sequence.request_id)
        group = self._groups[number]
        del group.sequences[sequence.request_id]
        if not group.sequences:
            del self._groups[number]
            if self._open.get(group.model) == number:
                del self._open[group.model]

    def first(self, num_groups: int = 1) -> Iterator[Group]:
        return islice(self._groups.values(), num_groups)
