from benchmarks.add_model import Phase, Seen, seen_in, summary
from benchmarks.load import Stream


def test_gaps_count_where_they_end_and_within_a_stream_only() -> None:
    streams = [Stream(0.0, [1.0, 2.0, 4.5]), Stream(4.5, [5.0, 5.25])]
    phases = [Phase("before", 0.0, 4.0), Phase("added", 4.0, 5.25)]
    seen = seen_in(phases, streams)
    assert [(each.phase, each.took_s, each.gaps_s) for each in seen] == [("before", 4.0, [1.0]), ("added", 1.25, [2.5])]


def test_a_rise_is_told_in_steps_and_judged() -> None:
    quiet = [0.01] * 99 + [0.02]
    seen = [Seen("before", 1.0, quiet), Seen("added", 2.0, [0.01] * 90 + [0.03] * 10), Seen("again", 2.0, [0.05] * 100)]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in summary(seen).splitlines()[2:]]
    assert rows == [
        ["before", "1.0", "100", "10.0", "10.0", "20.0", "+0.00", "+1.0", ""],
        ["added", "2.0", "100", "10.0", "30.0", "30.0", "+2.00", "+2.0", "met"],
        ["again", "2.0", "100", "50.0", "50.0", "50.0", "+4.00", "+4.0", "missed"],
    ]
