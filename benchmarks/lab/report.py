"""From the lab's raw results to tables, verdicts and plots.

    python benchmarks/lab/report.py             # rewrites the marked parts of docs/evidence.md, and the plots
    python benchmarks/lab/report.py --check     # exit code 1 if the committed tables are not those of the raw results

Accuracies and differences are means over seeds (differences: over the seeds that both arms have; of several runs of a
seed their mean), with 95 % intervals from a bootstrap over seeds (outer) and problems (inner). Two arms that go on from
one round of routed RFT are compared over the starts that both have, and their runs are resampled together: the starts
differ more than the arms. A difference's p is the exact sign test over problems, each averaged over the seeds; Holm
over H1-H5.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from arms import ARMS, REGIMES

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "src"))
from compare import (  # noqa: E402
    BRIDGE,
    REALM,
    ROUND,
    hypotheses,
    kept_on_dev,
    kept_start,
    over,
    part,
    pilot,
    placebo,
    points,
    shared_starts,
    signed,
    tokens_to_reach,
    without_unseen,
)
from curves import plots  # noqa: E402
from fresh import on_new, shared_steps  # noqa: E402

from realm_cli.stages.report_lab import Lab, mean_interval  # noqa: E402
from realm_cli.stages.summary import interval  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "lab"
PAGE = ROOT / "docs" / "evidence.md"
GROUPS = ("all", "covered", "thin", "combo", "unseen")
VIEWS = (("bare", "all"), ("bare", "unseen"), ("routed", "all"))
PARTS = (
    "baselines and ReaLM",
    "ReaLM-R1, one thing changed",
    "R1 with the bridge, one thing changed",
    "first design and options",
)
REFERENCE = {  # of the first design and of options: arm -> the arm that it changes
    "r1": "cold",
    **dict.fromkeys(("no_verdict", "placebo", "positives", "late_fade", "no_fade"), "r1"),
    **dict.fromkeys(("no_fade_negatives", "no_fade_ratio", "no_fade_quota"), "no_fade"),
    **dict.fromkeys(("grpo_members", "grpo_signal", "grpo_refill"), "grpo"),
    **dict.fromkeys(("r1_rft", "r1_rft_low", "rft_grpo", "rft_twice"), "rft_routed"),
    "rule_qa": "cold",
}


def mean_ci(runs: Sequence[dict[str, float]]) -> str:
    """`31.5 [27.8, 35.3]` in percent, over seeds and problems."""
    return interval(*mean_interval(runs)) if runs else "-"


def parted(names: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """(title, arms) of the parts of the table that have arms, in the order of `names`."""
    parts: dict[str, list[str]] = {title: [] for title in PARTS}
    baselines, changed, bridged, first = parts.values()
    for name in names:
        if name in REFERENCE:
            first.append(name)
        elif name.startswith(BRIDGE):
            bridged.append(name)
        else:
            (changed if name.startswith("r1_") else baselines).append(name)
    yield from ((title, found) for title, found in parts.items() if found)


def table(lab: Lab, regime: str, by_part: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Accuracies of every arm, in parts."""
    for title, names in by_part.items():
        yield (
            f"| {title} | seeds | "
            + " | ".join(f"bare {g}" for g in GROUPS)
            + " | routed all | routed unseen | rescued | bare/routed | verdicts | tokens sampled |"
        )
        yield "| --- | --- |" + " --- |" * (len(GROUPS) + 6)
        if title == PARTS[0]:
            yield from lines_of_routes(lab, lab.runs[regime][names[0]][0])
        yield from (accuracies(lab, regime, arm) for arm in names)
        yield ""


def lines_of_routes(lab: Lab, run: dict[str, Any]) -> Iterator[str]:
    """What the routes that were shown reach without a model."""
    for mode in ("plurality", "any"):
        own = [mean_ci([lab.values(run, mode, g)]).split(" ")[0] for g in ("all", "unseen")]
        label = {"plurality": "plurality of the routes shown", "any": "any of the routes shown right"}[mode]
        yield f"| *{label}* | |" + " |" * len(GROUPS) + f" {own[0]} | {own[1]} | | | | |"


def accuracies(lab: Lab, regime: str, arm: str) -> str:
    """The line of one arm."""
    runs = lab.runs[regime][arm]
    cells = [
        mean_ci(lab.many(regime, arm, "bare", g)) if g == "all" else share(lab, regime, arm, "bare", g) for g in GROUPS
    ]
    cells += [mean_ci(lab.many(regime, arm, "routed", "all")), share(lab, regime, arm, "routed", "unseen")]
    cells += [rescued(lab, regime, arm), autonomy(lab, regime, arm)]
    verdicts = [run["verdicts"].get("routed") for run in runs]
    known = [v for v in verdicts if v is not None]
    cells.append(f"{100 * fmean(known):.0f}" if known else "-")
    cells.append(f"{fmean(sum(run['sampled_tokens'].values()) for run in runs) / 1e6:.2f} M")
    return f"| {ARMS[arm].about} | {len(lab.seeds(regime, arm))} | " + " | ".join(cells) + " |"


def rescued(lab: Lab, regime: str, arm: str) -> str:
    """Routed accuracy on problems on which no route shown is right."""
    flags = [
        value
        for run in lab.runs[regime][arm]
        for value, one in zip(run["right"].get("routed", ""), run["any"], strict=False)
        if one == "0"
    ]
    return f"{100 * fmean(map(float, flags)):.1f}" if flags else "-"


def autonomy(lab: Lab, regime: str, arm: str) -> str:
    """Bare accuracy as a share of routed accuracy, in percent."""
    bare, routed = (
        fmean(v for run in lab.many(regime, arm, mode, "all") for v in run.values()) for mode in ("bare", "routed")
    )
    return f"{100 * bare / routed:.0f}" if routed else "-"


def share(lab: Lab, regime: str, arm: str, mode: str, group: str) -> str:
    """Mean without an interval."""
    return f"{100 * fmean(v for run in lab.many(regime, arm, mode, group) for v in run.values()):.1f}"


def differences(lab: Lab, regime: str, baselines: Sequence[str]) -> Iterator[str]:
    """ReaLM-R1 minus every baseline that does not share its start."""
    if REALM not in baselines:
        return
    yield f"| {ARMS[REALM].about} minus | over | bare all | bare unseen | routed all |"
    yield "| --- | --- | --- | --- | --- |"
    for arm in [name for name in baselines if name not in (REALM, ROUND)]:
        found = [part(lab, regime, *view, REALM, arm) for view in VIEWS]
        yield f"| {ARMS[arm].about} | {over(lab, regime, REALM, arm)} | " + " | ".join(map(signed, found)) + " |"


def references(lab: Lab, regime: str) -> Iterator[str]:
    """Arms of the first design and options, minus the arm that each changes."""
    runs = lab.runs[regime]
    found = [name for name in ARMS if name in REFERENCE and {name, REFERENCE[name]} <= runs.keys()]
    if not found:
        return
    yield ""
    yield f"| {PARTS[3]} | minus | over | bare all | bare unseen | routed all |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for arm in found:
        other = REFERENCE[arm]
        cells = [signed(part(lab, regime, *view, arm, other)) for view in VIEWS]
        yield (
            f"| {ARMS[arm].about} | {ARMS[other].about} | {over(lab, regime, arm, other)} | " + " | ".join(cells) + " |"
        )


def changed(lab: Lab, regime: str, against: str, names: Sequence[str]) -> Iterator[str]:
    """Arms minus the one that they change: those that go on from its round of routed RFT over the starts that both
    have, those with a round of their own over the seeds."""
    rows = []
    for arm in [name for name in names if name != against]:
        cells = [signed(part(lab, regime, *view, arm, against)) for view in VIEWS]
        at = shared_starts(lab, regime, arm, against)
        told, kept = "-", "-"  # with a round of its own, or without RL: a run is never below its start on dev
        theirs, ours = lab.by_start(regime, arm), lab.by_start(regime, against)
        if at and arm == ROUND:
            kept = f"{ARMS[against].about}: {sum(kept_start(ours[key]) for key in at)} of {len(at)}"
        elif at:
            gains = [100 * (kept_on_dev(theirs[key]) - kept_on_dev(ours[key])) for key in at]
            told = f"{points(fmean(gains))} ({', '.join(map(points, gains))})"
            kept = f"{sum(kept_start(theirs[key]) for key in at)} of {len(at)}"
        if cells[0] != "-":
            line = [ARMS[arm].about, over(lab, regime, arm, against), *cells, told, kept]
            rows.append(f"| {' | '.join(line)} |")
    if rows:
        yield ""
        yield f"| minus {ARMS[against].about} | over | bare all | bare unseen | routed all | kept on dev | start kept |"
        yield "| --- | --- | --- | --- | --- | --- | --- |"
        yield from rows


def parts(lab: Lab) -> dict[str, str]:
    """Marked part of the page -> its text."""
    out = {}
    for regime, about in REGIMES.items():
        if regime not in lab.runs:
            continue
        by_part = dict(parted([name for name in ARMS if name in lab.runs[regime]]))
        baselines = by_part.get(PARTS[0], [])
        lines = [f"Regime *{regime}*: {about}.", "", *table(lab, regime, by_part)]
        lines += [*differences(lab, regime, baselines), *on_new(lab, regime, baselines), *shared_steps(regime)]
        lines += changed(lab, regime, REALM, [ROUND, BRIDGE, *by_part.get(PARTS[1], [])])
        lines += changed(lab, regime, BRIDGE, [ROUND, *by_part.get(PARTS[2], [])])
        lines += [*references(lab, regime), "", *hypotheses(lab, regime), ""]
        for key, label in (("dev_bare", "all"), ("dev_bare/unseen", "the unseen family")):
            ratio = tokens_to_reach(lab, regime, key)
            if ratio:
                lines.append(f"Share of GRPO's tokens that R1 needs for GRPO's last dev accuracy, {label}: {ratio}.")
        lines += [*without_unseen(lab, regime), *placebo(lab, regime)]
        out[regime] = "\n".join(lines).strip()
    out["pilot"] = "\n".join(pilot(lab))
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--show", action="store_true", help="print, write nothing")
    a = parser.parse_args(argv)
    lab = Lab(a.results)
    found = parts(lab)
    if a.show:
        print("\n\n".join(found.values()))
        return 0
    old = a.page.read_text(encoding="utf-8")
    new = old
    for name, text in found.items():
        pattern = re.compile(rf"(<!-- lab:{name} -->\n).*?(\n<!-- end -->)", re.DOTALL)
        if not pattern.search(new):
            raise SystemExit(f"{a.page}: no part marked <!-- lab:{name} -->")
        new = pattern.sub(lambda match, text=text: match.group(1) + text + match.group(2), new)
    if a.check:
        if new != old:
            print(f"{a.page}: not the tables of {a.results}; run benchmarks/lab/report.py", file=sys.stderr)
        return int(new != old)
    a.page.write_text(new, encoding="utf-8")
    print(f"written: {a.page.name}", *plots(lab, a.results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
