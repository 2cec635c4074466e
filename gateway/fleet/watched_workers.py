"""What workers say while somebody watches: where weights lie, when turns began, how fast it goes. Pure."""

from collections.abc import Collection
from dataclasses import dataclass, field

from gateway.fleet.rate import Rate
from shared.ids import ModelName, RequestId, WorkerId
from shared.messages import Timeline, WorkerBeat, WorkerState


@dataclass(slots=True)
class _Watched:
    tokens: Rate
    switches: Rate
    state: WorkerState | None = None
    told_until_s: float = float("-inf")  # when the last step that it told of was over


@dataclass(slots=True)
class WatchedWorkers:
    """From the moment somebody begins to watch, until nobody does: then it is to be forgotten."""

    began_at_s: float
    _workers: dict[WorkerId, _Watched] = field(default_factory=dict)  # those that beat
    _tokens: dict[ModelName, Rate] = field(default_factory=dict)  # on all workers; of those that ran

    def on_state(self, state: WorkerState) -> None:
        self._watched(state.worker).state = state

    def on_timeline(self, timeline: Timeline, now_s: float) -> list[float]:
        """When each of its turns began, on our clock: never before the last one was over, however long each message
        was on its way."""
        if not timeline.turns:
            return []
        worker = self._watched(timeline.worker)
        late_s = max(0.0, worker.told_until_s - (now_s - timeline.turns[0].age_s))
        began_at_s = [now_s - turn.age_s + late_s for turn in timeline.turns]
        last_step = timeline.turns[-1].steps[-1]
        worker.told_until_s = began_at_s[-1] + last_step.offset_s + last_step.duration_s
        for turn in timeline.turns:
            num_tokens = sum(step.num_drawn_tokens for step in turn.steps)
            worker.tokens.add(num_tokens, now_s)
            self._tokens.setdefault(turn.model, Rate(self.began_at_s)).add(num_tokens, now_s)
        worker.switches.add(sum(turn.switch is not None for turn in timeline.turns), now_s)
        return began_at_s

    def keep(self, workers: Collection[WorkerId], models: Collection[ModelName]) -> None:
        """The others are gone."""
        self._workers = {name: watched for name, watched in self._workers.items() if name in workers}
        self._tokens = {name: rate for name, rate in self._tokens.items() if name in models}

    def state_of(self, beat: WorkerBeat) -> WorkerState | None:
        """None: its life has not said it yet."""
        watched = self._workers.get(beat.worker)
        state = watched.state if watched else None
        return state if state is not None and state.incarnation == beat.incarnation else None

    def prefilling(self) -> set[RequestId]:
        """Sequences whose prompts are being computed."""
        states = (watched.state for watched in self._workers.values())
        return {request_id for state in states if state is not None for request_id in state.prefilling}

    def tokens_per_s(self, worker: WorkerId, now_s: float) -> float:
        return self._workers[worker].tokens.per_s(now_s) if worker in self._workers else 0.0

    def switches_per_s(self, worker: WorkerId, now_s: float) -> float:
        return self._workers[worker].switches.per_s(now_s) if worker in self._workers else 0.0

    def model_tokens_per_s(self, model: ModelName, now_s: float) -> float:
        return self._tokens[model].per_s(now_s) if model in self._tokens else 0.0

    def _watched(self, worker: WorkerId) -> _Watched:
        return self._workers.setdefault(worker, _Watched(Rate(self.began_at_s), Rate(self.began_at_s)))
