"""Line charts as SVG, without a plotting library."""

from collections.abc import Sequence
from html import escape
from typing import Final, NamedTuple

_WIDTH: Final = 900
_HEIGHT: Final = 260
_LEFT: Final = 70
_RIGHT: Final = 20
_TOP: Final = 36  # two lines of text above the chart
_BOTTOM: Final = 26
_GREY: Final = "#777"
_COLOURS: Final = ("#3b82f6", "#f59e0b", "#10b981", "#ef4444", "#8b5cf6", "#6b7280")


class Line(NamedTuple):
    name: str
    points: Sequence[tuple[float, float]]  # x, y; x ascending


class Tick(NamedTuple):
    y: float
    label: str


def chart(title: str, lines: Sequence[Line], ticks: Sequence[Tick], x_label: str, max_points: int = 450) -> str:
    """An SVG. The y-axis goes from the lowest to the highest tick, x from the first to the last point of all lines."""
    xs = [x for line in lines for x, _ in line.points]
    left, right = min(xs), max(xs)
    low, high = min(tick.y for tick in ticks), max(tick.y for tick in ticks)

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + (x - left) / ((right - left) or 1) * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - (y - low) / ((high - low) or 1) * (_HEIGHT - _TOP - _BOTTOM),
        )

    shapes = [_text(_LEFT, 14, title)]
    for tick in ticks:
        _, y = place(left, tick.y)
        shapes.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#9996"/>')
        shapes.append(_text(4, y + 4, tick.label))
    legend_x = float(_LEFT)
    for line, colour in zip(lines, (_COLOURS * len(lines))[: len(lines)], strict=True):
        points = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in thinned(line.points, max_points))
        shapes.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{points}"/>')
        shapes.append(_text(legend_x, 30, line.name, colour))
        legend_x += 7 * len(line.name) + 20
    shapes.append(_text(_LEFT, _HEIGHT - 8, x_label))
    return "\n".join(
        [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}">', *shapes, "</svg>\n"]
    )


def thinned(points: Sequence[tuple[float, float]], max_points: int) -> Sequence[tuple[float, float]]:
    """At most so many of them, evenly chosen, the first and the last included."""
    if len(points) <= max_points:
        return points
    last = len(points) - 1
    return [points[round(i * last / (max_points - 1))] for i in range(max_points)]


def _text(x: float, y: float, words: str, colour: str = _GREY) -> str:
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" fill="{colour}" font-family="sans-serif" font-size="12">{escape(words)}</text>'
    )
