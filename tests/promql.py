"""Which metrics and labels an expression of PromQL names. promtool says whether it is an expression."""

import re
from typing import NamedTuple

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_RANGE = re.compile(r"\[[^\]]*\]")
_GROUPED = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"(?<![\w:$.])([a-zA-Z_:][\w:]*)\s*(\{[^}]*\}|\()?")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_WORDS = {"and", "or", "unless", "bool", "offset"}


class Named(NamedTuple):
    metrics: set[str]
    matched: dict[str, set[str]]  # labels that select rows of a metric
    grouped: set[str]  # labels that rows are put together by


def names_of(expression: str) -> Named:
    text = _RANGE.sub("", _STRING.sub('""', expression))
    grouped = {label.strip() for labels in _GROUPED.findall(text) for label in labels.split(",") if label.strip()}
    matched: dict[str, set[str]] = {}
    for name, behind in _SELECTOR.findall(_GROUPED.sub("", text)):
        if behind != "(" and name not in _WORDS:
            matched.setdefault(name, set()).update(_LABEL.findall(behind))
    return Named(set(matched), matched, grouped)
