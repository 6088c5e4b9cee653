"""The plots of the report: Altair, rendered to inline SVG that takes its colours from the page.

Every plot is drawn 360 units wide and scales with its column. Colours are CSS variables, so that light and dark come
from one SVG. No text of the data goes into a plot but counts and our own words; the caller labels the figure.
"""

import re
from typing import Any

import altair as alt
import vl_convert

from gristmill.wording import number

WIDTH = 300
_AXIS = {
    "labelColor": "var(--soft)",
    "titleColor": "var(--soft)",
    "tickColor": "var(--line)",
    "domainColor": "var(--line)",
    "gridColor": "var(--line)",
    "labelFontSize": 11,
    "titleFontSize": 11,
    "titleFontWeight": "normal",
    "labelFont": "sans-serif",
    "titleFont": "sans-serif",
}


def histogram(found: dict[str, Any]) -> str:
    """All rows as pale bars and the kept rows as strong bars over them, from a histogram of `numbers.distributions`."""
    edges = found["edges"]
    bars = [
        {"zero": 0, "from": edges[n], "to": edges[n + 1], "all": found["all"][n], "kept": found["kept"][n]}
        for n in range(len(edges) - 1)
    ]
    scale = alt.Scale(type="log", nice=False) if found["log"] else alt.Scale(zero=False, nice=False)
    ticks = alt.Axis(grid=False, format="~s", tickCount=5, labelOverlap=True)
    x = alt.X("from:Q", title=None, scale=scale, axis=ticks)
    base = alt.Chart(alt.InlineData(bars)).encode(x=x, x2="to:Q")
    count = alt.Axis(format="~s", tickCount=4)
    layers = [
        base.mark_bar(color=color, binSpacing=0).encode(
            y=alt.Y(f"{name}:Q", title=None, axis=count, stack=None), y2="zero:Q"
        )
        for name, color in (("all", "var(--pale)"), ("kept", "var(--strong)"))
    ]
    return _svg(alt.layer(*layers), 110)


def shares(bins: list[dict[str, Any]]) -> str:
    """Shares of all rows (pale) and of the kept rows (strong) side by side, in bins {from, to, before, after}."""
    bars = [
        {"bin": n, "side": side, "share": each.get(side) or 0}
        for n, each in enumerate(bins)
        for side in ("before", "after")
    ]
    labels = "{" + ",".join(f"{n}:'{number(each.get('from'))}'" for n, each in enumerate(bins)) + "}[datum.value]"
    x = alt.X("bin:O", title=None, axis=alt.Axis(labelExpr=labels, labelAngle=0, labelOverlap=True, ticks=False))
    y = alt.Y("share:Q", title=None, axis=alt.Axis(format="%", tickCount=4))
    colors = alt.Scale(domain=["before", "after"], range=["var(--pale)", "var(--strong)"])
    chart = alt.Chart(alt.InlineData(bars)).mark_bar()
    offset = alt.XOffset("side:N", sort=["before", "after"])
    return _svg(chart.encode(x=x, y=y, xOffset=offset, color=alt.Color("side:N", scale=colors, legend=None)), 110)


def curve(points: list[list[float]], threshold: float) -> str:
    """The share of pairs that become candidates, by their Jaccard similarity, with the threshold."""
    data = [{"similarity": s, "caught": p} for s, p in points]
    x = alt.X("similarity:Q", title="Jaccard similarity", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(tickCount=5))
    y = alt.Y("caught:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", tickCount=4))
    line = alt.Chart(alt.InlineData(data)).mark_line(color="var(--strong)", strokeWidth=2.5).encode(x=x, y=y)
    rule = alt.Chart(alt.InlineData([{"similarity": threshold}]))
    return _svg(alt.layer(line, rule.mark_rule(color="var(--drop)", strokeDash=[4, 3]).encode(x="similarity:Q")), 150)


def differences(rows: list[dict[str, Any]]) -> str:
    """Differences with their intervals, one a line: {name, difference, low, high}; 0 is the line in the middle."""
    names = [row["name"] for row in rows]
    y = alt.Y("name:N", sort=names, title=None, axis=alt.Axis(labelLimit=220, ticks=False, domain=False))
    base = alt.Chart(alt.InlineData(rows)).encode(y=y)
    x = alt.X("low:Q", title="difference of scores", axis=alt.Axis(format="+.0%", tickCount=5))
    bars = base.mark_rule(color="var(--strong)", strokeWidth=2).encode(x=x, x2="high:Q")
    dots = base.mark_point(color="var(--strong)", filled=True, size=45).encode(x="difference:Q")
    zero = alt.Chart(alt.InlineData([{"zero": 0}])).mark_rule(color="var(--drop)", strokeDash=[4, 3])
    return _svg(alt.layer(zero.encode(x="zero:Q"), bars, dots), 18 * len(rows) + 10)


def _svg(chart: alt.LayerChart | alt.FacetChart | alt.Chart, height: int) -> str:
    """The chart as an `<svg>` without a fixed size; it is hidden from screen readers, whose text the caller gives."""
    spec = chart.properties(width=WIDTH, height=height, background="transparent", padding=4)
    spec = spec.configure(axis=_AXIS, view={"stroke": None}, aria=False)
    svg = vl_convert.vegalite_to_svg(spec.to_dict())
    svg = svg[svg.index("<svg") :]
    head, rest = svg.split(">", 1)
    head = re.sub(r' (width|height|xmlns:xlink|version)="[^"]*"', "", head)
    rest = re.sub(r' (aria-\w+|role|class)="[^"]*"', "", rest)
    return f'{head} aria-hidden="true" focusable="false">{rest}'
