"""From raw measurements to figures: medians, ratios, bounds, growth exponents. Pure, without torch.

    data = {"about": {...}, "cases": {name: {"kind", "options", "model", "runs": {side: [run, ...]}, "summary"}}}

A run is what measure.py printed ({"seconds": [...], "peak_gib": ..., ...}) or {"error": ...}; `summary` is worked out
from the runs and can be worked out again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import linear_regression, median
from typing import Any

Run = dict[str, Any]
Runs = dict[str, list[Run]]
Bounds = Mapping[str, tuple[float | None, float | None]]
SAME_WEIGHTS, SAME_LOSS = 1e-2, 1e-4  # largest differences that still count as the same (relative; absolute)


def timed(kind: str, runs: Sequence[Run]) -> list[float]:
    """Seconds of all rounds; of training, without each process's first step, which warms up."""
    return [s for run in runs for s in run.get("seconds", [])[0 if kind == "sample" else 1 :]]


def summary(kind: str, runs: Runs) -> dict[str, float]:
    """Medians; where both sides were measured, `speedup` = peer/ours of time, `memory_share` = ours/peer of the peak.

    `work_share`: the same of what was added to the memory taken after loading.
    """
    out: dict[str, float] = {}
    for side, found in runs.items():
        good = [run for run in found if "error" not in run]
        seconds = timed(kind, good)
        if not seconds:
            continue
        out[f"{side}_seconds"] = median(seconds)
        out[f"{side}_peak_gib"] = max(run["peak_gib"] for run in good)
        out[f"{side}_work_gib"] = max(run["peak_gib"] - run["loaded_gib"] for run in good)
        tokens = [run["tokens"] for run in good if "tokens" in run]
        if tokens:
            out[f"{side}_tokens_per_second"] = median(tokens) / out[f"{side}_seconds"]
    if "ours_seconds" in out and "peer_seconds" in out:
        out["speedup"] = out["peer_seconds"] / out["ours_seconds"]
        out["memory_share"] = out["ours_peak_gib"] / out["peer_peak_gib"]
        if out["peer_work_gib"] > 0:
            out["work_share"] = out["ours_work_gib"] / out["peer_work_gib"]
    return out


def agreement(runs: Runs, weights: float | None = None) -> dict[str, Any] | None:
    """Whether both sides did the same update: losses, gradient norms, weights. None without runs of both.

    weights: |ours - peer| / |peer| over all of LoRA's B (moved from 0), where it was measured.
    """
    ours, peer = (next((run for run in runs.get(side, []) if "losses" in run), None) for side in ("ours", "peer"))
    if ours is None or peer is None:
        return None
    loss = max(abs(a - b) for a, b in zip(ours["losses"], peer["losses"], strict=True))
    norms = list(zip(ours["grad_norms"], peer["grad_norms"], strict=True))
    out: dict[str, Any] = {
        "loss_ours": ours["losses"],
        "loss_peer": peer["losses"],
        "loss_difference": loss,
        "grad_norm_difference": max(abs(a - b) / max(b, 1e-12) for a, b in norms),
    }
    if weights is not None:
        out["weights_difference"] = weights
    near = [loss <= SAME_LOSS, out["grad_norm_difference"] <= SAME_WEIGHTS, (weights or 0.0) <= SAME_WEIGHTS]
    out["same"] = all(near)
    return out


def left_to_do(case: Mapping[str, Any] | None, sides: Sequence[str], rounds: int) -> list[tuple[int, str]]:
    """(round, side) still to be measured, sides alternating; what is there is kept."""
    runs = case["runs"] if case else {}
    return [(r, side) for r in range(rounds) for side in sides if len(runs.get(side, [])) <= r]


def stale(case: Mapping[str, Any] | None, options: Mapping[str, Any], model: str, method: int) -> bool:
    """Whether stored runs cannot be added to: none, of other sizes, of another model, or measured in another way."""
    return case is None or case["options"] != dict(options) or case["model"] != model or case.get("method", 1) != method


@dataclass(frozen=True)
class Line:
    """A row of the table; seconds or GiB."""

    name: str
    unit: str
    ours: float | None
    peer: float | None
    ratio: float | None  # seconds: times faster; GiB: our share
    bound: str
    met: bool | None  # None: no bound, or nothing measured
    note: str = ""


def lines(data: Mapping[str, Any], bounds: Bounds, methods: Mapping[str, int]) -> list[Line]:
    """The table: time of every case, then memory of training; cases with a bound are there measured or not.

    What was measured in an older way than `methods` says is shown, but meets no bound.
    """
    cases = data.get("cases", {})
    names = [*cases, *(name for name in bounds if name not in cases)]
    times, memory = [], []
    for name in names:
        case = cases.get(name, {"kind": "", "runs": {}})
        s = summary(case["kind"], case["runs"])
        older = bool(s) and case.get("method", 1) != methods.get(case["kind"], 1)
        faster, share = (None, None) if older else bounds.get(name, (None, None))
        errors = [f"{side}: {run['error']}" for side, found in case["runs"].items() for run in found if "error" in run]
        note = "; ".join(dict.fromkeys(errors)) or ("measured another way" if older else "" if s else "not measured")
        ratio = s.get("speedup")
        met = None if faster is None or ratio is None else ratio >= faster
        bound = "" if faster is None else f">= {faster:g}"
        times.append(Line(name, "s", s.get("ours_seconds"), s.get("peer_seconds"), ratio, bound, met, note))
        if case["kind"] in ("update", "step"):
            ratio = s.get("memory_share")
            met = None if share is None or ratio is None else ratio <= share
            bound = "" if share is None else f"<= {share:g}"
            memory.append(Line(name, "GiB", s.get("ours_peak_gib"), s.get("peer_peak_gib"), ratio, bound, met))
    return times + memory


def markdown(rows: Sequence[Line]) -> str:
    """The table for a document."""
    head = ["| measurement | ours | peer | ratio | bound | met |", "|---|---|---|---|---|---|"]
    return "\n".join(head + ["| " + " | ".join(cells(row)) + " |" for row in rows])


def cells(row: Line) -> list[str]:
    """A row as text."""
    met = {True: "yes", False: "NO", None: row.note[:60]}[row.met]
    numbers = ["" if value is None else f"{value:.2f} {row.unit}" for value in (row.ours, row.peer)]
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}x" if row.unit == "s" else f"{100 * row.ratio:.0f} %"
    return [row.name, *numbers, ratio, row.bound, met]


def curve(
    data: Mapping[str, Any], kind: str, axis: str, common: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, list[tuple[float, float, float]]]:
    """side -> (value on the axis, seconds, peak GiB), rising: the cases that differ from `common` in `axis` alone.

    How often was measured and in how many rows TRL took its batch may differ; every other option may not.
    """
    free = {axis, "repeats", "peer-rows"}
    want = {k: v for k, v in {**defaults, **common}.items() if k not in free}
    out: dict[str, dict[float, tuple[float, float, float]]] = {}
    for case in data.get("cases", {}).values():
        options = {**defaults, **case["options"]}
        if case["kind"] != kind or {k: v for k, v in options.items() if k not in free} != want:
            continue
        s = summary(kind, case["runs"])
        for side in case["runs"]:
            if f"{side}_seconds" in s:
                x = float(options[axis])
                out.setdefault(side, {})[x] = (x, s[f"{side}_seconds"], s[f"{side}_peak_gib"])
    return {side: [points[x] for x in sorted(points)] for side, points in out.items()}


def exponent(points: Sequence[tuple[float, float]]) -> float | None:
    """b of the least-squares fit y = a x^b; None below two different x, or where a value is not positive."""
    if len({x for x, _ in points}) < 2 or any(x <= 0 or y <= 0 for x, y in points):
        return None
    return linear_regression([math.log(x) for x, _ in points], [math.log(y) for _, y in points]).slope
