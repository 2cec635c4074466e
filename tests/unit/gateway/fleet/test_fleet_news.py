from gateway.fleet.fleet_news import MAX_UNHEARD, Listener, LostNews, ModelNews, Reporter, WorkerNews
from shared.ids import Incarnation, ModelName, WorkerId
from shared.messages import ModelLoad, WorkerBeat, WorkerWent

WORKER, LIFE, A, B = WorkerId("worker-0"), Incarnation("life-1"), ModelName("a"), ModelName("b")


def beat(*models: ModelLoad, draining: bool = False) -> WorkerBeat:
    return WorkerBeat(WORKER, LIFE, 1, models, None, 0, 0, 0, {}, draining)


def test_only_what_differs_from_the_last_beat_is_news() -> None:
    reporter = Reporter()
    assert reporter.news_of(beat(ModelLoad(A, "loading", progress=0.25))) == [ModelNews(WORKER, A, "loading", 0.25)]
    assert reporter.news_of(beat(ModelLoad(A, "loading", progress=0.25, num_waiting=3))) == []
    assert reporter.news_of(beat(ModelLoad(A, "loading", progress=0.5))) == [ModelNews(WORKER, A, "loading", 0.5)]
    assert reporter.news_of(beat(ModelLoad(A, "failed", reason="too large"), ModelLoad(B, "cached"))) == [
        ModelNews(WORKER, A, "failed", None, "too large"),
        ModelNews(WORKER, B, "cached"),
    ]
    assert reporter.news_of(beat(ModelLoad(B, "cached"))) == [ModelNews(WORKER, A, None)]


def test_draining_is_told_once() -> None:
    reporter = Reporter()
    assert reporter.news_of(beat(draining=True)) == [WorkerNews(WORKER, LIFE, "draining")]
    assert reporter.news_of(beat(draining=True)) == []
    assert reporter.news_of(beat()) == [WorkerNews(WORKER, LIFE, "serving")]


def test_a_worker_that_comes_back_is_told_from_the_beginning() -> None:
    reporter = Reporter()
    reporter.news_of(beat(ModelLoad(A, "cached")))
    assert reporter.news_of(WorkerWent(WORKER, LIFE, "gone")) == [WorkerNews(WORKER, LIFE, "went", "gone")]
    assert reporter.news_of(beat(ModelLoad(A, "cached"))) == [ModelNews(WORKER, A, "cached")]


async def test_who_listens_too_slowly_misses_the_oldest_and_hears_how_many() -> None:
    listener = Listener()
    for number in range(MAX_UNHEARD + 5):
        listener.on_message(WorkerWent(WORKER, LIFE, str(number)))
    heard = await listener.next(timeout_s=1.0)
    assert heard[0] == LostNews(5) and len(heard) == 1 + MAX_UNHEARD
    assert heard[1] == WorkerNews(WORKER, LIFE, "went", "5")
    listener.on_message(WorkerWent(WORKER, LIFE, "more"))
    assert await listener.next(timeout_s=1.0) == [WorkerNews(WORKER, LIFE, "went", "more")]
    assert await listener.next(timeout_s=0.0) == []
