"""Prometheus' rules are about what is measured, and each is tried. How: tests/integration/test_prometheus.py."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.measured import labels_of_rows, recorded, unknown_in
from tests.promql import names_of

FOLDER = Path(__file__).parents[3] / "deploy/prometheus"
RULES = (FOLDER / "rules.yml").read_text()


def all_rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES)["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("rule", all_rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_every_metric_and_label_is_there(rule: dict[str, Any]) -> None:
    assert unknown_in(rule["expr"], labels_of_rows() | recorded(RULES)) == []


def test_every_rule_is_tried_where_it_holds() -> None:
    tests = yaml.safe_load((FOLDER / "rules_test.yml").read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case.get("exp_alerts")}
    silent = {case["alertname"] for test in tests for case in test["alert_rule_test"] if not case.get("exp_alerts")}
    tried = (case["expr"] for test in tests for case in test.get("promql_expr_test", []))
    shown = {name for expression in tried for name in names_of(expression).metrics}
    alerts = {rule["alert"] for rule in all_rules() if "alert" in rule}
    assert fired == silent == alerts
    assert shown == set(recorded(RULES))
