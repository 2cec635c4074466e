from benchmarks.tenants import SITUATIONS, Sample, arrivals_s, summary


def test_arrivals_are_the_same_for_the_same_seed_and_as_many_as_asked_for() -> None:
    at_s = arrivals_s(5.0, 200.0, seed=1)
    assert at_s == arrivals_s(5.0, 200.0, seed=1) != arrivals_s(5.0, 200.0, seed=2)
    assert at_s == sorted(at_s) and at_s[0] >= 0 and at_s[-1] < 200.0
    assert 900 < len(at_s) < 1100


def test_the_goal_is_about_the_p95_beside_the_flood() -> None:
    for factor, expected in ((1.9, "met"), (2.1, "missed")):
        samples = [
            Sample(situation, [0.1] * 90 + [0.2 * (factor if situation != "alone" else 1.0)] * 10, 300.0)
            for situation in SITUATIONS
            for _ in range(2)
        ]
        _, _, alone, beside, own = summary(samples).splitlines()
        assert "| 200 " in alone and " 1.00 " in alone and "met" not in alone
        assert f"| {factor:.2f} " in beside and f" {expected} " in beside
        assert " met " not in own and " missed " not in own
