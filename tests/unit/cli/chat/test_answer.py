from collections.abc import AsyncIterator, Sequence

import pytest

from cli.chat.answer import Answer, Usage, read_answer
from cli.exit_codes import Answered
from cli.sse import ServerEvent


class Recorder:
    def __init__(self) -> None:
        self.shown: list[tuple[str, str]] = []

    def waiting(self, text: str) -> None:
        self.shown.append(("waiting", text))

    def reasoning(self, text: str) -> None:
        self.shown.append(("reasoning", text))

    def content(self, text: str) -> None:
        self.shown.append(("content", text))


async def said(*datas: str) -> AsyncIterator[ServerEvent]:
    for data in datas:
        yield ServerEvent(comment=data[1:]) if data.startswith(":") else ServerEvent(data.encode())


async def read(datas: Sequence[str], ages_s: Sequence[float] = ()) -> tuple[Answer, Recorder]:
    answer, show = Answer(), Recorder()
    clock = iter(ages_s)
    await read_answer(said(*datas), answer, show, 0.0, clock=lambda: next(clock, 9.0))
    return answer, show


def delta(text: str, field: str = "content", finish: str = "null") -> str:
    return f'{{"choices": [{{"delta": {{"{field}": "{text}"}}, "finish_reason": {finish}}}], "usage": null}}'


END = '{"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 4}}'


async def test_it_is_told_as_it_comes() -> None:
    datas = [":queued", delta(""), delta("hm", "reasoning"), delta("Hel"), delta("lo", finish='"stop"'), END, "[DONE]"]
    answer, show = await read(datas, [0.1, 0.5, 0.7, 2.0, 2.1])
    assert show.shown == [("waiting", "queued"), ("reasoning", "hm"), ("content", "Hel"), ("content", "lo")]
    assert (answer.content, answer.reasoning, answer.finish_reason) == ("Hello", "hm", "stop")
    assert answer.usage == Usage(5, 4)
    assert answer.ttft_s == 0.5 and answer.tokens_per_s == pytest.approx(3 / 1.5)


async def test_a_single_token_has_no_speed() -> None:
    answer, _ = await read([delta("a", finish='"length"'), END, "[DONE]"], [0.5])
    assert answer.ttft_s == 0.5 and answer.tokens_per_s is None


@pytest.mark.parametrize(
    ("datas", "why"),
    [
        ([delta("Hel"), '{"error": {"message": "too slow", "code": "client_too_slow"}}', "[DONE]"], "too slow"),
        ([delta("Hel")], "breaks off"),
        ([delta("Hel"), "<html>"], "no chunk"),
    ],
)
async def test_what_came_before_an_error_is_kept(datas: list[str], why: str) -> None:
    answer, show = Answer(), Recorder()
    with pytest.raises(Answered, match=why):
        await read_answer(said(*datas), answer, show, 0.0)
    assert answer.content == "Hel" and answer.finish_reason is None
