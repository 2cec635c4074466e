"""What the feed says of the present moment, put together from what this gateway knows."""

from collections.abc import Set
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal

from gateway.admission.admission import Admission
from gateway.admission.in_flight import InFlight
from gateway.admission.waiting import Standing, WaitingLines
from gateway.attainment import Attainment
from gateway.fleet.cluster import Cluster
from gateway.fleet.models import Models
from gateway.fleet.watched_workers import WatchedWorkers
from gateway.http.admin.feed_objects import FeedKv, FeedMemory, FeedModel, FeedRequest, FeedState, FeedWorker
from gateway.http.status import SloObject
from shared.ids import OwnerId
from shared.levels import Levels
from shared.messages import WorkerBeat

MAX_REQUESTS: Final = 200
_NOT_KNOWN: Final = FeedMemory(None, {})
_WAITS_FOR: Final = {
    "preparing": "is prepared",
    "submitting": "waits for a router",
    "held": "held by the router",
    "queued": "queued on its worker",
}


@dataclass(frozen=True, slots=True)
class Present:
    """Nothing of it is changed."""

    gateway: OwnerId
    admission: Admission
    lines: WaitingLines
    models: Models
    levels: Levels
    attainment: Attainment
    cluster: Cluster

    def state(self, workers: WatchedWorkers, num_viewers: int, at_s: float, now_s: float) -> FeedState:
        nums, prefilling = self.admission.num_of_models(), workers.prefilling()
        oldest = islice(self.admission.in_flight(), MAX_REQUESTS)
        beats = [beat for beat, _ in self.cluster.workers(now_s)]
        return FeedState(
            at_s,
            self.gateway,
            self._models(workers, now_s),
            [worker_of(beat, workers, now_s) for beat in beats],
            [request_of(each, prefilling) for each in oldest],
            nums.total(),
            num_viewers,
        )

    def _models(self, workers: WatchedWorkers, now_s: float) -> list[FeedModel]:
        states, waits_s = self.cluster.states(), self.lines.predicted_waits_s(now_s)
        nums = self.admission.num_of_models()
        found = []
        for name, entry in self.models.entries().items():
            level, num_waiting = self.levels[name], self.lines.num_waiting(name)
            found.append(
                FeedModel(
                    name,
                    *states.get(name, ("loading", None)),
                    pinned=entry.pinned,
                    priority=level.priority,
                    waiting=num_waiting,
                    running=max(0, nums[name] - num_waiting),
                    predicted_ttft_s=waits_s.get(name),
                    attainment=self.attainment.of(name).share,
                    tokens_per_s=workers.model_tokens_per_s(name, now_s),
                    slo=SloObject(level.slo.ttft_s, level.slo.tbt_s),
                )
            )
        return found


def worker_of(beat: WorkerBeat, workers: WatchedWorkers, now_s: float) -> FeedWorker:
    state = workers.state_of(beat)
    return FeedWorker(
        beat.worker,
        beat.incarnation,
        beat.draining,
        policy=state.policy if state else "",
        device=FeedMemory(state.device_total_bytes, state.device_models) if state else _NOT_KNOWN,
        host=FeedMemory(state.host_total_bytes, state.host_models) if state else _NOT_KNOWN,
        kv=FeedKv(beat.kv_used_bytes, beat.kv_total_bytes),
        tokens_per_s=workers.tokens_per_s(beat.worker, now_s),
        switches_per_s=workers.switches_per_s(beat.worker, now_s),
    )


def request_of(each: InFlight, prefilling: Set[str]) -> FeedRequest:
    """prefilling: sequences whose workers compute their prompts."""
    phase: Literal["waiting", "prefill", "decode"] = "decode" if each.phase == "running" else "waiting"
    if phase == "waiting" and each.request_id in prefilling:
        phase = "prefill"
    return FeedRequest(
        each.request_id,
        each.model,
        each.tenant,
        phase,
        each.num_prompt_tokens,
        each.num_output_tokens,
        each.age_s,
        each.worker,
        status=_status(each, phase),
    )


def _status(each: InFlight, phase: str) -> str:
    if phase == "decode":
        return ""
    doing = "its prompt is computed" if phase == "prefill" else _WAITS_FOR[each.phase]
    return doing if each.position is None else f"{doing}, {Standing(each.position, each.wait_s)}"
