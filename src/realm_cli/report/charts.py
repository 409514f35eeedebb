"""Small pictures as inline SVG, with a title and a description for those who do not see them.

Colours are classes (c0 ... c5) that page.html defines for light, dark and paper; lines differ in dashes as well.
Usage: `line_chart(chart)` with a chart of stages/report_curves.py; `interval_chart(title, bars)`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from realm_cli.errors import printable

WIDTH, HEIGHT = 520, 250
LEFT, RIGHT, TOP, BOTTOM = 50, 126, 12, 42  # margins; the right one holds the lines' names
ROW = 26  # of interval_chart
LETTERS = 14  # of a name beside a line


def text(value: object, most: int = 200) -> str:
    """Escaped for HTML and for the eye, shortened."""
    shown = printable(str(value))
    return str(escape(shown if len(shown) <= most else f"{shown[: most - 1]}…"))


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that span low to high: steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def label(value: float) -> str:
    """A tick's number: 0.25, 40, 1.2e-5."""
    return f"{value:.10g}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.2g}"


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Heights near the wanted ones, at least `gap` apart, within low to high as far as they fit."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = [0.0] * len(wanted)
    at = low - gap
    for i in order:
        at = placed[i] = max(wanted[i], at + gap)
    at = high + gap
    for i in reversed(order):
        at = placed[i] = min(placed[i], at - gap)
    return placed


def line_chart(chart: Mapping[str, Any]) -> Markup:
    """Lines over steps with their names at their ends, and bands where there are any."""
    series = chart["series"]
    everything = [p for one in series for p in one["points"]]
    xs = [p[0] for p in everything]
    ys = [p[1] for p in everything] + [end for one in series for _, *ends in one["band"] for end in ends]
    y_ticks = [0.0, 20.0, 40.0, 60.0, 80.0, 100.0] if chart["percent"] else ticks(min(ys), max(ys))
    low, high = y_ticks[0], y_ticks[-1]
    first, last = min(xs), max(xs)
    x_ticks = [t for t in ticks(first, last) if first <= t <= last]
    wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(value: float) -> float:
        return round(LEFT + (wide * (value - first) / (last - first) if last > first else wide / 2), 1)

    def y(value: float) -> float:
        return round(TOP + tall * (high - value) / (high - low), 1)

    out = []
    for t in y_ticks:
        out.append(f'<line class="grid" x1="{LEFT}" x2="{LEFT + wide}" y1="{y(t)}" y2="{y(t)}"/>')
        out.append(f'<text class="tick end" x="{LEFT - 7}" y="{y(t) + 4}">{label(t)}</text>')
    for t in x_ticks or [first]:
        out.append(f'<text class="tick mid" x="{x(t)}" y="{HEIGHT - BOTTOM + 17}">{label(t)}</text>')
    out.append(f'<text class="tick mid" x="{LEFT + wide / 2}" y="{HEIGHT - 6}">{text(chart["x"])}</text>')
    heights = spread([y(one["points"][-1][1]) for one in series], 16, TOP + 4, TOP + tall)
    names = []
    for number, (one, height) in enumerate(zip(series, heights, strict=True)):
        out.append(f'<g class="c{number}"><title>{text(one["name"])}</title>')
        if one["band"]:
            upper = [f"{x(p[0])},{y(p[2])}" for p in one["band"]]
            lower = [f"{x(p[0])},{y(p[1])}" for p in reversed(one["band"])]
            out.append(f'<polygon class="band" points="{" ".join([*upper, *lower])}"/>')
        places = " ".join(f"{x(p[0])},{y(p[1])}" for p in one["points"])
        out.append(f'<polyline class="line{" dotted" if one["dotted"] else f" d{number}"}" points="{places}"/>')
        if len(one["points"]) == 1:
            out.append(f'<circle class="dot" r="4" cx="{x(one["points"][0][0])}" cy="{y(one["points"][0][1])}"/>')
        out.append("</g>")
        end = x(one["points"][-1][0])
        lead = f'<line class="lead" x1="{end + 2}" y1="{y(one["points"][-1][1])}" x2="{end + 10}" y2="{height}"/>'
        name = f'<text class="name" x="{end + 13}" y="{height + 4}">{text(one["name"], LETTERS)}</text>'
        names.append(f'<g class="c{number}">{lead}{name}</g>')
    out += names  # above all lines: a short one ends among the others
    told = "; ".join(
        f"{text(one['name'])}: {one['points'][0][1]:.4g} at {label(one['points'][0][0])}, "
        f"{one['points'][-1][1]:.4g} at {label(one['points'][-1][0])}"
        for one in series
    )
    return _svg(WIDTH, HEIGHT, chart["title"], f"{text(chart['about'], 500)} First and last values: {told}.", out)


def interval_chart(title: str, bars: Sequence[Mapping[str, Any]]) -> Markup:
    """Dots with 95 % intervals of bars {name, part, at, low, high} (shares), from 0 to 100 %: a row per name."""
    names, parts = (list(dict.fromkeys(bar[key] for bar in bars)) for key in ("name", "part"))
    rows = ROW + 8 * (len(parts) - 1)
    head = 24 if len(parts) > 1 else 4
    height = head + rows * len(names) + 24
    start = 24 + 9 * min(20, max(len(name) for name in names))
    wide = WIDTH - start - 20 - 58 * len(parts)

    def x(value: float) -> float:
        return round(start + wide * min(1.0, max(0.0, value)), 1)

    out = []
    for t in (0, 0.25, 0.5, 0.75, 1):
        out.append(f'<line class="grid" x1="{x(t)}" x2="{x(t)}" y1="{head}" y2="{height - 22}"/>')
        out.append(f'<text class="tick mid" x="{x(t)}" y="{height - 7}">{100 * t:.0f}</text>')
    for column, part in enumerate(parts):
        if len(parts) > 1:
            right = WIDTH - 58 * (len(parts) - 1 - column) - 4
            out.append(f'<text class="name end c{column % 6}" x="{right}" y="15">{text(part, 8)}</text>')
    for row, name in enumerate(names):
        middle = head + rows * (row + 0.5) + 4
        out.append(f'<text class="name plain end" x="{start - 12}" y="{middle}">{text(name, 22)}</text>')
    told = []
    for bar in bars:
        column = parts.index(bar["part"])
        y = head + rows * (names.index(bar["name"]) + 0.5) + 9 * (column - (len(parts) - 1) / 2)
        right = WIDTH - 58 * (len(parts) - 1 - column) - 4
        whole = f"{bar['name']}, {bar['part']}"
        out.append(f'<g class="c{column % 6}"><title>{text(whole)}</title>')
        out.append(f'<line class="line" x1="{x(bar["low"])}" x2="{x(bar["high"])}" y1="{y}" y2="{y}"/>')
        out.append(f'<circle class="dot" r="4" cx="{x(bar["at"])}" cy="{y}"/>')
        middle = head + rows * (names.index(bar["name"]) + 0.5) + 4
        out.append(f'<text class="name end" x="{right}" y="{middle}">{100 * bar["at"]:.1f}</text></g>')
        told.append(f"{text(whole)}: {100 * bar['at']:.1f} [{100 * bar['low']:.1f}, {100 * bar['high']:.1f}] %")
    return _svg(WIDTH, height, title, "; ".join(told), out)


def _svg(width: int, height: int, title: object, told: str, parts: Sequence[str]) -> Markup:
    """told: escaped already."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
    return Markup(f"{head}<title>{text(title)}</title><desc>{told}</desc>{''.join(parts)}</svg>")
