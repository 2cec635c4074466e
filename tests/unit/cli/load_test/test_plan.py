import pytest

from cli.load_test.plan import Load, Range, parse_range, planned


def load(num: int, rate: float | None = None, seed: int = 0) -> Load:
    return Load(["a", "b"], num, Range(3, 5), Range(7, 7), rate, seed)


def test_the_same_seed_plans_the_same() -> None:
    assert list(planned(load(20, 5.0))) == list(planned(load(20, 5.0)))
    assert list(planned(load(20, 5.0))) != list(planned(load(20, 5.0, seed=1)))


def test_models_come_in_turns_and_lengths_within_their_ranges() -> None:
    found = list(planned(load(100)))
    assert [each.model for each in found[:4]] == ["a", "b", "a", "b"]
    assert {len(each.prompt.split()) for each in found} == {3, 4, 5}
    assert {each.num_output_tokens for each in found} == {7}
    assert {each.at_s for each in found} == {None}


def test_arrivals_have_the_rate() -> None:
    times = [each.at_s for each in planned(load(2000, 50.0))]
    assert times[0] == 0.0 and times == sorted(times, key=float)  # type: ignore[arg-type]
    assert times[-1] == pytest.approx(2000 / 50.0, rel=0.1)


def test_ranges_are_written_as_one_number_or_two() -> None:
    assert (parse_range("128"), parse_range("64-256")) == (Range(128, 128), Range(64, 256))
    for text in ("", "x", "0", "9-3", "-4", "1-", "1-2-3", "9999999"):
        with pytest.raises(ValueError):
            parse_range(text)
