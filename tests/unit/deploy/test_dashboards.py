"""Grafana's dashboards ask for nothing that is not measured."""

import json
import re
from pathlib import Path

import pytest

from deploy.grafana.make_dashboards import DASHBOARDS, FOLDER, Dashboard, rendered
from tests.measured import labels_of_rows, recorded, unknown_in
from tests.promql import names_of

RULES = Path(__file__).parents[3] / "deploy/prometheus/rules.yml"


@pytest.fixture(scope="module")
def rows() -> dict[str, set[str]]:
    return labels_of_rows() | recorded(RULES.read_text())


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)
def test_its_file_is_what_is_made(dashboard: Dashboard) -> None:
    file = FOLDER / f"{dashboard.uid}.json"
    assert file.read_text(encoding="utf-8") == rendered(dashboard), "run: python -m deploy.grafana.make_dashboards"


def test_there_are_no_others() -> None:
    assert {file.stem for file in FOLDER.glob("*.json")} == {dashboard.uid for dashboard in DASHBOARDS}


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)
def test_every_metric_and_label_is_there(dashboard: Dashboard, rows: dict[str, set[str]]) -> None:
    document = json.loads((FOLDER / f"{dashboard.uid}.json").read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel in document["panels"] for target in panel["targets"]]
    assert len(expressions) > 10
    assert {each: wrong for each in expressions if (wrong := unknown_in(each, rows))} == {}


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)
def test_legends_show_labels_that_rows_have(dashboard: Dashboard, rows: dict[str, set[str]]) -> None:
    for panel in dashboard.panels:
        for query in panel.queries:
            names = names_of(query.expression)
            has = names.grouped or {"instance", "service"}.union(*(rows[name] for name in names.metrics))
            assert set(re.findall(r"\{\{(\w+)\}\}", query.legend)) <= has, query


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)
def test_variables_are_defined_and_used(dashboard: Dashboard, rows: dict[str, set[str]]) -> None:
    used = {name for name in re.findall(r"\$(\w+)", rendered(dashboard)) if not name.startswith("__")}
    assert used == ({dashboard.variable[0]} if dashboard.variable else set())
    if dashboard.variable:
        name, metric = dashboard.variable
        assert name in rows[metric] | {"instance"}


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ("sum(rate(kottos_steps_total[5m]))", []),
        ("sum(rate(kottos_stepz_total[5m]))", ["kottos_stepz_total"]),
        ('kottos_steps_total{side="device"}', ["kottos_steps_total{side}"]),
        ('kottos_steps_total{model="sum by (x)"} offset 5m', []),
        ("sum by (model, kind) (kottos_steps_total)", ["kind"]),
        ("histogram_quantile(0.9, sum by (le) (rate(kottos_step_seconds_bucket[5m])))", []),
        ("kottos_step_seconds", ["kottos_step_seconds"]),
    ],
)
def test_a_wrong_name_would_show(rows: dict[str, set[str]], expression: str, wrong: list[str]) -> None:
    assert unknown_in(expression, rows) == wrong
