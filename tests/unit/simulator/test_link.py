from simulator.link import Link


class Ends:
    """When each transfer ended, and whether it arrived."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.arrived: dict[str, bool] = {}

    def start(self, name: str, num_bytes: int, urgent: bool = False):  # type: ignore[no-untyped-def]
        def on_end(arrived: bool) -> None:
            self.arrived[name] = arrived

        return self.link.start(num_bytes, urgent=urgent, on_end=on_end)


def test_transfers_take_their_bytes_one_after_another() -> None:
    ends = Ends(link := Link(100))
    ends.start("first", 100)
    second = ends.start("second", 50)
    assert (link.next_end_s(), link.ends_at_s(second)) == (1.0, 1.5)
    link.advance(0.99)
    assert ends.arrived == {}
    link.advance(1.0)
    assert ends.arrived == {"first": True}
    link.advance(9.0)
    assert ends.arrived == {"first": True, "second": True}
    assert link.busy_s == 1.5


def test_urgent_ones_go_before_what_is_under_way_which_then_goes_on() -> None:
    ends = Ends(link := Link(100))
    ahead = ends.start("ahead", 100)
    link.advance(0.5)
    urgent = ends.start("urgent", 100, urgent=True)
    assert (link.ends_at_s(urgent), link.ends_at_s(ahead)) == (1.5, 2.0)
    ahead.hurry()
    assert (link.ends_at_s(urgent), link.ends_at_s(ahead)) == (2.0, 1.0)


def test_a_cancelled_one_ends_at_once_and_has_not_arrived() -> None:
    ends = Ends(link := Link(100))
    ahead = ends.start("ahead", 100)
    other = ends.start("other", 100)
    link.advance(0.5)
    link.cancel(ahead)
    assert ends.arrived == {"ahead": False}
    assert link.ends_at_s(other) == 1.5


def test_reaching_the_predicted_end_is_the_end() -> None:
    ends = Ends(link := Link(7.3e6))
    for number in range(200):
        link.advance(number * 0.1)
        transfer = ends.start(str(number), 123_457)
        link.advance(link.ends_at_s(transfer))
        assert ends.arrived[str(number)]
