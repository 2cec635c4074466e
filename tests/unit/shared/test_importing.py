"""How far an import is, over all its phases."""

from itertools import pairwise

from shared.importing import Phase, Progress, share_done

PHASES: tuple[Phase, ...] = ("copy", "tokenizer", "load", "write", "probe")


def test_the_share_grows_from_nothing_to_all() -> None:
    shares = [share_done(Progress(phase, done, 4)) for phase in PHASES for done in range(5)]
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert all(earlier <= later for earlier, later in pairwise(shares))
    assert len(set(shares)) > 4 * len(PHASES)


def test_a_phase_of_unknown_or_exceeded_size_stays_within_its_share() -> None:
    assert share_done(Progress("write", 0, 0)) == share_done(Progress("write", 0, 1))
    assert share_done(Progress("write", 9, 4)) == share_done(Progress("write", 4, 4))
