"""Learning curves of a run, from its metrics.jsonl files.

A chart is {"title", "about", "x", "percent", "series"}; a series {"name", "points": [[x, y]], "band": [[x, low, high]]
or [], "dotted"}. Values of a step are smoothed by a running mean, whose width `about` tells; dev figures are not.
Usage: `charts = curves(run, missing, dev=200)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from realm_cli.method.intervals import wilson
from realm_cli.method.teaching import dead_shares
from realm_cli.stages.watching import Tail

MOST_POINTS = 300  # of a line
MOST_LINES = 6  # of a chart; more groups are left out, and said so

Points = list[list[float]]


def curves(run: Path, missing: list[str], *, dev: int = 0) -> list[dict[str, Any]]:
    """All charts for which there is a figure. dev: problems behind the dev figures, 0 = not known (no bands)."""
    charts = []
    rl = rows_of(run / "train_rl" / "metrics.jsonl")
    if rl:
        charts += _accuracy(rl, dev)
        charts += _steps(rl)
    else:
        missing.append(f"No reinforcement learning yet: `realm train-rl --run {run}` draws its curves.")
    loss = [
        line(name, points(rows_of(run / stage / "metrics.jsonl"), "loss"))
        for stage, name in (("distill", "distill"), ("refine/distill", "refine"))
    ]
    if any(series["points"] for series in loss):
        charts.append(chart("Loss of fine-tuning", "Mean over the learned tokens, nats.", smoothed(loss)))
    else:
        missing.append(f"No distillation yet: `realm distill --run {run}` draws the loss.")
    return [item for item in charts if item["series"]]


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Rows of a metrics file, a cut or broken one left out; [] where there is none."""
    return list(Tail(path).rows())


def points(rows: Sequence[dict[str, Any]], key: str, *, times: float = 1.0) -> Points:
    """[[step, value]] of the rows that have a finite one."""
    pairs: list[tuple[Any, Any]] = [(row.get("step"), row.get(key)) for row in rows]
    return [[float(x), times * float(y)] for x, y in pairs if _finite(x) and _finite(y)]


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def line(name: str, found: Points, *, band: Points | None = None, dotted: bool = False) -> dict[str, Any]:
    """A series."""
    return {"name": name, "points": thinned(found), "band": thinned(band or []), "dotted": dotted}


def thinned(found: Points) -> Points:
    """At most MOST_POINTS, the last one kept."""
    every = math.ceil(len(found) / MOST_POINTS) or 1
    return found[::every] + (found[-1:] if found and (len(found) - 1) % every else [])


def chart(
    title: str, about: str, series: Sequence[dict[str, Any]], *, x: str = "step", percent: bool = False
) -> dict[str, Any]:
    """A chart of the series that have a point; percent: the values are percent, drawn from 0 to 100."""
    kept = [one for one in series if one["points"]]
    if len(kept) > MOST_LINES:
        about = f"{about} {len(kept) - MOST_LINES} more lines are left out."
    return {"title": title, "about": about, "x": x, "percent": percent, "series": kept[:MOST_LINES]}


def _accuracy(rows: Sequence[dict[str, Any]], dev: int) -> list[dict[str, Any]]:
    bare = points(rows, "dev_bare", times=100)
    band = [[x, *(100 * end for end in _interval(y / 100, dev))] for x, y in bare] if dev else []
    about = (
        "Greedy answers to dev problems, %; dotted: lambda of the fade x 100 (how far routes still stand in prompts)."
    )
    fade = line("fade λ", points(rows, "lam", times=100), dotted=True)
    main = [line("bare", bare, band=band), line("with routes", points(rows, "dev_routed", times=100))]
    if band:
        about += f" Band: 95 % interval of the bare accuracy, {dev} problems."
    found = [chart("Dev accuracy and the fade", about, [*main, fade], percent=True)] if bare else []
    keys = sorted({key for row in rows for key in row if key.startswith("dev_bare/")})
    groups = [line(key.removeprefix("dev_bare/"), points(rows, key, times=100)) for key in keys]
    if groups:
        found.append(chart("Dev accuracy by group", "Bare prompts, %.", groups, percent=True))
    return found


def _interval(share: float, n: int) -> tuple[float, float]:
    return wilson(min(n, max(0, round(share * n))), n)


def _steps(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What every step of RL tells."""
    wanted = (
        ("Rewards by part", "Means over completions; verdicts from -1 to 1.", False,
         (("answer, bare", "r_ans_bare"), ("answer, routed", "r_ans_routed"), ("form, bare", "r_fmt_bare"),
          ("verdicts", "r_ver"))),
        ("Groups that teach nothing", "Share of the groups, %.", True,
         (("bare", "dead_bare"), ("routed", "dead_routed"))),
        ("Length of completions", "Tokens, mean.", False, (("bare", "length_bare"), ("routed", "length_routed"))),
    )  # fmt: skip
    charts, rows = [], [{**row, **dead_shares(row)} for row in rows]
    for title, about, percent, keys in wanted:
        series = [line(name, points(rows, key, times=100 if percent else 1)) for name, key in keys]
        width = _width(series)
        about += f" Running mean of {width} steps." if width > 1 else ""
        charts.append(chart(title, about, smoothed(series), percent=percent))
    return charts


def _width(series: Sequence[dict[str, Any]]) -> int:
    return max(1, max((len(one["points"]) for one in series), default=0) // 30)


def smoothed(series: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The series with each value replaced by the mean of those around it."""
    half = _width(series) // 2

    def mean(found: Points) -> Points:
        windows = [found[max(0, i - half) : i + half + 1] for i in range(len(found))]
        return [[x, sum(y for _, y in near) / len(near)] for (x, _), near in zip(found, windows, strict=True)]

    return [{**one, "points": mean(one["points"])} for one in series]
