"""A line in which tenants take turns by what they have been served: virtual token counters (Sheng et al., "Fairness in
Serving Large Language Models", OSDI 2024, algorithm 2).

The tenant with the least counter goes next, of equal ones the one with the earlier item. Who waits for nothing saves
nothing up but a head start: when a tenant comes back, its counter is lifted to the least of those that wait, less that.
So what two tenants get while both wait differs by a bounded amount, however much one of them asks for, and as long as
there are only so many tenants, nobody starves. Of one tenant, items go by their keys; the priority, a key's first part,
is above tenants. With one tenant it is a sorted list.
"""

from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from math import inf
from typing import Final, Generic, TypeVar, cast

PROMPT_WEIGHT: Final = 1.0  # of a token, as published
OUTPUT_WEIGHT: Final = 2.0
MAX_AWAY: Final = 4096  # counters kept of tenants that wait for nothing; those charged longest ago go

Key = tuple[float, float, str]  # priority (lower is served first), place, id
T = TypeVar("T")
U = TypeVar("U")
_Rank = tuple[float, float, float, str]  # priority of its first, counter, place of its first, tenant


class Line(Generic[T]):
    """Items in the order of their keys, which must not change meanwhile."""

    def __init__(self, key: Callable[[T], Key]) -> None:
        self._key = key
        self._items: list[T] = []

    def add(self, item: T) -> None:
        insort(self._items, item, key=self._key)

    def remove(self, item: T) -> None:
        """Raises ValueError when it is not here."""
        key = self._key(item)
        index = self.num_before(key)
        if index == len(self._items) or self._items[index] is not item:
            raise ValueError(f"{key[2]} is not waiting")
        del self._items[index]

    @property
    def first(self) -> T:
        return self._items[0]

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    def since(self, key: Key) -> Iterator[T]:
        """Those whose keys are not less, in order."""
        return self._between(self.num_before(key), len(self._items))

    def before(self, key: Key) -> Iterator[T]:
        """Those whose keys are less, in order."""
        return self._between(0, self.num_before(key))

    def num_before(self, key: Key) -> int:
        return bisect_left(self._items, key, key=self._key)

    def _between(self, start: int, stop: int) -> Iterator[T]:
        return (self._items[index] for index in range(start, stop))


class _Account(Generic[T]):
    """Of a tenant that waits."""

    __slots__ = ("counter", "line", "rank")

    def __init__(self, counter: float, line: Line[T]) -> None:
        self.counter = counter
        self.line = line  # not empty
        self.rank: _Rank | None = None  # as it stands among the ranks


class FairLine(Generic[T]):
    """Looking at the first few takes time by their number, not by how many items or tenants wait."""

    def __init__(
        self,
        key: Callable[[T], Key],
        tenant: Callable[[T], str],
        cost: Callable[[T], float],
        head_start: float = 0.0,
    ) -> None:
        """cost: in weighted tokens, of beginning to serve an item. head_start: so many may a tenant be behind the least
        when it comes back; what it asks for then is served before others, up to that."""
        self._key, self._tenant, self._cost, self._head_start = key, tenant, cost, head_start
        self._all: Line[T] = Line(key)
        self._waiting: dict[str, _Account[T]] = {}
        self._ranks: list[_Rank] = []  # of those, in order
        self._away: OrderedDict[str, float] = OrderedDict()  # counters of other tenants, charged longest ago first
        self._last_left, self._level = "", 0.0  # who was the last to wait for nothing more, and its counter then
        self._charged: dict[str, float] = {}  # not yet counted

    # --- items ---

    def add(self, item: T) -> None:
        tenant = self._tenant(item)
        account = self._waiting.get(tenant)
        if account is None:
            account = self._waiting[tenant] = _Account(self._lifted(tenant), Line(self._key))
        account.line.add(item)
        self._all.add(item)
        self._rank(tenant, account)

    def remove(self, item: T) -> None:
        """Raises ValueError when it does not wait here."""
        self._all.remove(item)
        tenant = self._tenant(item)
        account = self._waiting[tenant]
        account.line.remove(item)
        if len(account.line):
            self._rank(tenant, account)
        else:
            self._leave(tenant, account)

    def serve(self, item: T) -> None:
        """It waits no longer, and its tenant pays for what that takes."""
        self.remove(item)
        self.charge(self._tenant(item), self._cost(item))

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, item: object) -> bool:
        return any(item is other for other in self._all)

    # --- order ---

    def __iter__(self) -> Iterator[T]:
        return self.fairly(iter)

    def fairly(self, of_tenant: Callable[[Line[T]], Iterator[U]]) -> Iterator[U]:
        """Tenants in turn, each one's items as `of_tenant` brings them. Charges what it yields as if it were served.

        U: T as its caller sees it.
        """
        self._settle()
        if len(self._waiting) == 1:
            return of_tenant(next(iter(self._waiting.values())).line)
        return self._merged(of_tenant)

    @property
    def first(self) -> T:
        """Of the fair order. There is one."""
        self._settle()
        return self._waiting[self._ranks[0][3]].line.first

    @property
    def earliest(self) -> T:
        """The first by key alone. There is one."""
        return self._all.first

    @property
    def num_tenants(self) -> int:
        """That wait."""
        return len(self._waiting)

    def num_before(self, key: Key) -> int:
        """Items of all tenants whose keys are less."""
        return self._all.num_before(key)

    # --- counters ---

    def charge(self, tenant: str, cost: float) -> None:
        """It has been served so many weighted tokens more."""
        self._charged[tenant] = self._charged.get(tenant, 0.0) + cost

    def counter(self, tenant: str) -> float:
        self._settle()
        account = self._waiting.get(tenant)
        return account.counter if account is not None else self._away.get(tenant, 0.0)

    def _settle(self) -> None:
        if not self._charged:
            return
        charged, self._charged = self._charged, {}
        for tenant, cost in charged.items():
            if (account := self._waiting.get(tenant)) is not None:
                account.counter += cost
                self._rank(tenant, account)
            else:
                self._keep(tenant, self._away.get(tenant, self._level) + cost)

    def _lifted(self, tenant: str) -> float:
        """The counter of one that begins to wait."""
        self._settle()
        least = self._least_counter() if self._waiting else self._away.get(self._last_left, self._level)
        return max(self._away.pop(tenant, 0.0), least - self._head_start)

    def _least_counter(self) -> float:
        least, index = inf, 0
        while index < len(self._ranks):  # the first of each priority
            priority, counter, _, _ = self._ranks[index]
            least = min(least, counter)
            index = bisect_right(self._ranks, (priority, inf, inf, ""), index)
        return least

    def _leave(self, tenant: str, account: _Account[T]) -> None:
        del self._waiting[tenant]
        self._unrank(account)
        self._last_left, self._level = tenant, account.counter
        self._keep(tenant, account.counter)

    def _keep(self, tenant: str, counter: float) -> None:
        self._away[tenant] = counter
        self._away.move_to_end(tenant)
        if len(self._away) > MAX_AWAY:
            self._away.popitem(last=False)

    def _rank(self, tenant: str, account: _Account[T]) -> None:
        priority, place, _ = self._key(account.line.first)
        rank = (priority, account.counter, place, tenant)
        if rank != account.rank:
            self._unrank(account)
            insort(self._ranks, rank)
            account.rank = rank

    def _unrank(self, account: _Account[T]) -> None:
        if account.rank is not None:
            del self._ranks[bisect_left(self._ranks, account.rank)]
            account.rank = None

    def _merged(self, of_tenant: Callable[[Line[T]], Iterator[U]]) -> Iterator[U]:
        ranks = iter(self._ranks)
        next_rank = next(ranks, None)
        heads: list[tuple[_Rank, U, Iterator[U]]] = []  # a heap; a rank is that of the next item
        while heads or next_rank is not None:
            if next_rank is not None and (not heads or next_rank < heads[0][0]):
                _, counter, _, tenant = next_rank
                rest = of_tenant(self._waiting[tenant].line)
                next_rank = next(ranks, None)
            else:
                (_, counter, _, tenant), item, rest = heappop(heads)
                yield item
                counter += self._cost(cast(T, item))
            if (item_after := next(rest, None)) is not None:
                priority, place, _ = self._key(cast(T, item_after))
                heappush(heads, ((priority, counter, place, tenant), item_after, rest))
