"""The lab's results (benchmarks/lab): its runs in memory, and what a page of them shows.

runs.jsonl holds one line per regime, arm and seed, of a seed more than one where its start was built anew: `right`
(mode -> one digit a problem, in the order of test.json beside it), `curve` ([step, tokens, dev metrics]),
`sampled_tokens`. Usage: `data = lab_report(path)`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from realm_cli.errors import DataError
from realm_cli.method.intervals import SHARE
from realm_cli.method.scoring import seeded_difference
from realm_cli.stages.report_curves import MOST_LINES, Points, chart, line
from realm_cli.stages.summary import interval

N_BOOT = 2000
FIRST = ("realm_r1", "grpo", "r1", "fade", "no_fade", "zero")  # of the lines, where there are more arms than colours


class Lab:
    """All runs of one folder: regime -> arm -> runs by seed, of a seed more than one where its start was built anew."""

    def __init__(self, folder: Path, file: str = "runs.jsonl") -> None:
        self.test: dict[str, str] = json.loads((folder / "test.json").read_text(encoding="utf-8"))
        self.runs: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
        rows = [json.loads(line) for line in (folder / file).read_text(encoding="utf-8").splitlines() if line]
        for row in sorted(rows, key=lambda row: row["seed"]):
            self.runs[row["regime"]][row["arm"]].append(row)

    def values(self, run: dict[str, Any], mode: str, group: str) -> dict[str, float]:
        """problem -> 0 or 1 of one run; `plurality` and `any` are modes as well."""
        digits = run["right"][mode] if mode in run["right"] else run[mode]
        chosen = zip(self.test.items(), digits, strict=True)
        return {i: float(d) for (i, g), d in chosen if group in ("all", g) or g in group.split("+")}

    def many(
        self, regime: str, arm: str, mode: str, group: str, seeds: set[int] | None = None
    ) -> list[dict[str, float]]:
        """One mapping a seed, of these seeds only where they are given; a seed's runs are averaged."""
        runs = [run for run in self.runs[regime].get(arm, []) if seeds is None or run["seed"] in seeds]
        return self.by_seed(runs, mode, group)

    def by_seed(self, runs: Sequence[dict[str, Any]], mode: str, group: str) -> list[dict[str, float]]:
        """problem -> its mean over the runs of one seed, for each seed in order."""
        found: dict[int, list[dict[str, float]]] = defaultdict(list)
        for run in runs:
            found[run["seed"]].append(self.values(run, mode, group))
        return [{i: fmean(one[i] for one in found[seed]) for i in found[seed][0]} for seed in sorted(found)]

    def seeds(self, regime: str, arm: str) -> set[int]:
        """Which seeds of an arm are there."""
        return {run["seed"] for run in self.runs[regime].get(arm, [])}

    def by_start(self, regime: str, arm: str) -> dict[tuple[int, int], dict[str, Any]]:
        """(seed, tokens sampled before RL) -> run: of a seed, the round before RL was built more than once. Two runs
        with one key began from the same adapter."""
        return {(run["seed"], run["sampled_tokens"]["rollout"]): run for run in self.runs[regime].get(arm, [])}


def mean_interval(runs: Sequence[dict[str, float]]) -> tuple[float, float, float]:
    """(mean, low, high) over seeds and problems, shares; never of width 0."""
    mean, low, high = seeded_difference(runs, [dict.fromkeys(runs[0], 0.0)], 0, N_BOOT, bounds=SHARE)
    return mean, low, high


def curve(run: dict[str, Any]) -> list[tuple[int, int, dict[str, float]]]:
    """(step, tokens sampled so far, dev accuracies), the tokens before reinforcement learning included."""
    return [(step, run["sampled_tokens"]["rollout"] + tokens, dev) for step, tokens, dev in run["curve"]]


def lab_report(path: Path) -> dict[str, Any]:
    """All that the page shows. DataError where the files are not the lab's."""
    try:
        lab = Lab(path.parent, path.name)
        labs = [_regime(lab, regime) for regime in lab.runs]
        charts = [one for regime in lab.runs for one in _curves(lab, regime) if one["series"]]
    except OSError as error:
        raise DataError(
            f"{error.filename}: not readable; --lab wants the lab's runs.jsonl, test.json beside it"
        ) from None
    except (LookupError, TypeError, ValueError, AttributeError):
        raise DataError(f"{path}: not the results of the lab; make them with `make lab`") from None
    if not labs:
        raise DataError(f"{path}: no rows; make them with `make lab`")
    seeds = sorted({run["seed"] for arms in lab.runs.values() for runs in arms.values() for run in runs})
    limits = [
        f"Intervals are over {len(lab.test)} problems and the seeds of each arm, at most {len(seeds)}; an arm with one "
        "seed has no say about others.",
        "Arms with different seeds are not to be read against each other here; docs/evidence.md pairs them by seed and "
        "problem.",
        "The lab's tiny student and its synthetic domain show which part of the method does what, not how large "
        "models do.",
    ]
    return {
        "title": f"Lab: {path.name}",
        "kind": "lab",
        "made": datetime.now().astimezone().isoformat(timespec="minutes"),
        "labs": labs,
        "charts": charts,
        "limits": limits,
        "missing": [],
        **dict.fromkeys(("trained", "evaluation", "routes", "examples", "findings", "manifest")),
    }


def _regime(lab: Lab, regime: str) -> dict[str, Any]:
    """Bare and routed accuracy of every arm, the best bare one first."""
    groups = sorted(set(lab.test.values()))
    rows, bars = [], []
    for arm, runs in lab.runs[regime].items():
        modes = [mode for mode in ("bare", "routed") if all(mode in run["right"] for run in runs)]
        cells = {mode: mean_interval(lab.many(regime, arm, mode, "all")) for mode in modes}
        for mode, (mean, low, high) in cells.items():
            bars.append({"name": arm, "part": mode, "at": mean, "low": low, "high": high, "n": len(lab.test)})
        own = [
            f"{100 * fmean(v for run in lab.many(regime, arm, 'bare', group) for v in run.values()):.1f}"
            for group in groups
        ]
        shown = [interval(*cells[mode]) if mode in cells else "-" for mode in ("bare", "routed")]
        rows.append([arm, str(len(lab.seeds(regime, arm))), *shown, *own])
    bare: dict[Any, Any] = {bar["name"]: bar["at"] for bar in bars if bar["part"] == "bare"}
    rows.sort(key=lambda row: -bare.get(row[0], 0.0))
    bars.sort(key=lambda bar: (-bare.get(bar["name"], 0.0), bar["part"]))
    columns = ["arm", "seeds", "bare %", "routed %", *(f"bare, {group}" for group in groups)]
    title = f"Regime {regime}"
    return {"title": title, "bars": bars, "table": {"title": title, "columns": columns, "rows": rows}}


def _curves(lab: Lab, regime: str) -> list[dict[str, Any]]:
    """Bare dev accuracy over sampled tokens, mean over seeds; the band spans the seeds."""
    series = []
    arms = lab.runs[regime]
    drawn = [*(arm for arm in FIRST if arm in arms), *(arm for arm in arms if arm not in FIRST)]
    for arm in drawn[:MOST_LINES]:
        runs = [curve(run) for run in arms[arm] if run["curve"]]
        middle: Points = []
        band: Points = []
        for at in zip(*runs, strict=False):
            x, values = fmean(tokens for _, tokens, _ in at) / 1e6, [100 * dev.get("dev_bare", 0.0) for *_, dev in at]
            middle.append([x, fmean(values)])
            band.append([x, min(values), max(values)])
        series.append(line(arm, middle, band=band if len(runs) > 1 else None))
    about = "Mean over seeds, %; the band is the lowest and highest seed. Tokens of rollout and RL."
    if (more := len(drawn) - MOST_LINES) > 0:
        about += f" {more} more arms are in the table only."
    return [chart(f"Bare dev accuracy, regime {regime}", about, series, x="sampled tokens, millions", percent=True)]
