import re
from xml.etree import ElementTree

from benchmarks.plot import Line, Tick, chart, thinned


def test_lines_span_the_chart_and_names_are_escaped() -> None:
    svg = chart("a < b", [Line("x & y", [(0, 0), (5, 10)])], [Tick(0, "0"), Tick(10, "10")], "seconds")
    ElementTree.fromstring(svg)
    points = re.search(r'points="([^"]+)"', svg)
    assert points is not None
    (x0, y0), (x1, y1) = (map(float, point.split(",")) for point in points[1].split())
    rules = [float(y) for y in re.findall(r'y1="([\d.]+)"', svg)]
    assert (y0, y1) == (max(rules), min(rules))
    assert x0 < x1


def test_thinning_keeps_both_ends() -> None:
    points = [(float(i), 0.0) for i in range(1000)]
    kept = thinned(points, 10)
    assert (len(kept), kept[0], kept[-1]) == (10, points[0], points[-1])
    assert thinned(points[:5], 10) == points[:5]
