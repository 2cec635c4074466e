from shared.levels import LevelChange, Levels, ModelLevel, SloConfig, changed
from shared.slo import ServiceLevel, Slo


def test_a_model_has_the_defaults_but_for_what_it_changes() -> None:
    own = ModelLevel("own", LevelChange(tbt_s=0.2, priority=0))
    levels = Levels(SloConfig(ttft_s=3.0, tbt_s=0.4, priority=5, models=(own, ModelLevel("same", LevelChange()))))
    assert levels["other"] == levels["same"] == ServiceLevel(Slo(3.0, 0.4), priority=5)
    assert levels["own"] == ServiceLevel(Slo(3.0, 0.2), priority=0)


def test_a_name_that_no_model_has_shows() -> None:
    levels = Levels(SloConfig(models=(ModelLevel("a", LevelChange()), ModelLevel("typo", LevelChange()))))
    assert levels.without_model({"a", "b"}) == ["typo"]


def test_without_configuration_it_is_as_published() -> None:
    assert Levels(SloConfig())["any"] == ServiceLevel(Slo(10.0, 0.1), priority=0)


def test_a_request_changes_what_it_names() -> None:
    level = ServiceLevel(Slo(3.0, 0.4), priority=5)
    assert changed(level, LevelChange()) == level
    assert changed(level, LevelChange(1.0, 0.01, -1)) == ServiceLevel(Slo(1.0, 0.01), priority=-1)


def test_the_text_form_names_only_what_differs() -> None:
    assert str(ModelLevel("a", LevelChange(ttft_s=2.0, priority=-1))) == "a=ttft_s:2.0,priority:-1"
    assert str(ModelLevel("a", LevelChange())) == "a="


def test_what_is_changed_while_it_runs_comes_on_top_and_goes_again() -> None:
    levels = Levels(SloConfig(ttft_s=3.0, models=(ModelLevel("a", LevelChange(tbt_s=0.4)),)))
    levels.follow({"a": LevelChange(priority=2), "b": LevelChange(ttft_s=1.0)})
    assert levels["a"] == ServiceLevel(Slo(3.0, 0.4), 2)
    assert levels["b"] == ServiceLevel(Slo(1.0, 0.1), 0)
    levels.follow({"a": LevelChange()})
    assert (levels["a"], levels["b"]) == (ServiceLevel(Slo(3.0, 0.4), 0), ServiceLevel(Slo(3.0, 0.1), 0))
