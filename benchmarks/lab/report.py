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
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from arms import ARMS, REGIMES

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "src"))
from realm_cli.stages.report_lab import N_BOOT, Lab, curve, mean_interval  # noqa: E402
from realm_cli.stages.summary import interval  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "lab"
PAGE = ROOT / "docs" / "evidence.md"
GROUPS = ("all", "covered", "thin", "combo", "unseen")
REALM, BRIDGE, ROUND = "realm_r1", "r1_bridge", "rft_both"  # ROUND: what both of them go on from
VIEWS = (("bare", "all"), ("bare", "unseen"), ("routed", "all"))
COLOURS = {  # of the arms in the plots
    "grpo": "#c8553d",
    "fade": "#8d6a9f",
    "r1": "#1b6ca8",
    "no_fade": "#6fb1dd",
    "realm_r1": "#2a9d4a",
    "always": "#888",
    "zero": "#d9a404",
}


def mean_ci(runs: Sequence[dict[str, float]]) -> str:
    """`31.5 [27.8, 35.3]` in percent, over seeds and problems."""
    return interval(*mean_interval(runs)) if runs else "-"


def difference(
    ours: Sequence[dict[str, float]], theirs: Sequence[dict[str, float]], *, paired: bool = False
) -> tuple[float, float, float, float]:
    """(mean, low, high, p) of ours - theirs in points; one mapping a run on either side, of one start where paired."""
    from realm_cli.method.scoring import paired_difference, seeded_difference

    mean, low, high = (100 * x for x in seeded_difference(ours, theirs, 0, N_BOOT, paired=paired))
    a, b = ({i: [run[i] for run in runs] for i in runs[0]} for runs in (ours, theirs))
    return mean, low, high, paired_difference(a, b, 0, 100).mcnemar_p


def table(lab: Lab, regime: str) -> Iterator[str]:
    """Accuracies of every arm."""
    yield (
        "| arm | seeds | "
        + " | ".join(f"bare {g}" for g in GROUPS)
        + " | routed all | routed unseen | rescued | bare/routed | verdicts | tokens sampled |"
    )
    yield "| --- | --- |" + " --- |" * (len(GROUPS) + 6)
    runs = lab.runs[regime]
    first = next(iter(runs.values()))[0]
    for mode in ("plurality", "any"):
        own = [mean_ci([lab.values(first, mode, g)]).split(" ")[0] for g in ("all", "unseen")]
        label = {"plurality": "plurality of the routes shown", "any": "any of the routes shown right"}[mode]
        yield f"| *{label}* | |" + " |" * len(GROUPS) + f" {own[0]} | {own[1]} | | | | |"
    for arm in [name for name in ARMS if name in runs]:
        cells = [
            mean_ci(lab.many(regime, arm, "bare", g)) if g == "all" else share(lab, regime, arm, "bare", g)
            for g in GROUPS
        ]
        cells += [mean_ci(lab.many(regime, arm, "routed", "all")), share(lab, regime, arm, "routed", "unseen")]
        cells += [rescued(lab, regime, arm), autonomy(lab, regime, arm)]
        verdicts = [run["verdicts"].get("routed") for run in runs[arm]]
        known = [v for v in verdicts if v is not None]
        cells.append(f"{100 * fmean(known):.0f}" if known else "-")
        cells.append(f"{fmean(sum(run['sampled_tokens'].values()) for run in runs[arm]) / 1e6:.2f} M")
        yield f"| {ARMS[arm].about} | {len(lab.seeds(regime, arm))} | " + " | ".join(cells) + " |"


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


def differences(lab: Lab, regime: str) -> Iterator[str]:
    """ReaLM-R1 (where it was not run: with the bridge) minus every arm that does not share its start."""
    runs, against = lab.runs[regime], main_arm(lab, regime)
    if against not in runs:
        return
    yield f"| {ARMS[against].about} minus | bare all | bare unseen | routed all |"
    yield "| --- | --- | --- | --- |"
    for arm in [name for name in ARMS if name in runs and name not in (against, ROUND) and ARMS[name].after != ROUND]:
        found = [part(lab, regime, *view, against, arm) for view in VIEWS]
        yield f"| {ARMS[arm].about} | " + " | ".join(map(signed, found)) + " |"


def main_arm(lab: Lab, regime: str) -> str:
    """ReaLM-R1, or where only the earlier one was run, that."""
    return REALM if REALM in lab.runs[regime] else BRIDGE


def starts(lab: Lab, regime: str, against: str, names: Sequence[str]) -> Iterator[str]:
    """Arms that go on from the same round of routed RFT as `against`, minus it, over the starts that both have."""
    found = [name for name in names if name != against and shared_starts(lab, regime, name, against)]
    if not found:
        return
    yield ""
    yield f"| minus {ARMS[against].about}, of one start | starts | bare all | bare unseen | routed all | kept on dev |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for arm in found:
        at = shared_starts(lab, regime, arm, against)
        theirs, ours = lab.by_start(regime, arm), lab.by_start(regime, against)
        gains = [100 * (kept_on_dev(theirs[key], ours[key]) - kept_on_dev(ours[key])) for key in at]
        cells = [signed(part(lab, regime, *view, arm, against)) for view in VIEWS]
        told = f"{fmean(gains):+.1f} ({', '.join(f'{gain:+.1f}' for gain in gains)})"
        cells.append("-" if arm == ROUND else told)  # the best of a run and its start is never below the start
        yield f"| {ARMS[arm].about} | {len(at)} | " + " | ".join(cells) + " |"


def shared_starts(lab: Lab, regime: str, one: str, other: str) -> list[tuple[int, int]]:
    """The starts from which both arms have a run; none for arms that do not go on from the same round."""
    rounds = {arm if arm == ROUND else ARMS[arm].after for arm in (one, other)}
    if len(rounds) > 1 or rounds == {""}:
        return []
    return sorted(lab.by_start(regime, one).keys() & lab.by_start(regime, other).keys())


def kept_on_dev(run: dict[str, Any], beside: dict[str, Any] | None = None) -> float:
    """Bare dev accuracy of the adapter that was kept: the best of RL; without RL, the start of the run `beside`."""
    points = [dev["dev_bare"] for _, _, dev in run["curve"]]
    return max(points) if points else float((beside or run)["curve"][0][2]["dev_bare"])


def signed(found: tuple[float, float, float, float] | None) -> str:
    """`+1.5 [-0.2, +2.9]`."""
    return "-" if found is None else "{:+.1f} [{:+.1f}, {:+.1f}]".format(*found[:3])


# Hypothesis -> its parts: (mode, groups, better arm, worse arm, whether it must be above 0 or only not below). A pair
# of modes compares the arm with the routes' own vote.
HYPOTHESES: dict[str, tuple[str, tuple[tuple[str, str, str, str, bool], ...]]] = {
    "H1": ("routed: ReaLM beats the plurality of the same routes and the CoT-Synthesizer",
           (("routed/plurality", "all", REALM, REALM, True), ("routed", "all", REALM, "synth", True))),
    "H2": ("bare: ReaLM-Zero beats vanilla GRPO, ReaLM-R1 beats SFT + GRPO",
           (("bare", "all", "zero", "zero_grpo", True), ("bare", "all", REALM, "grpo", True))),
    "H3": ("bare: fading beats routes to the end and is not below their abrupt end",
           (("bare", "all", REALM, "r1_none", True), ("bare", "all", REALM, "r1_abrupt", False))),
    "H4": ("contrast beats right routes only, bare and routed (both with the bridge)",
           (("bare", "all", BRIDGE, f"{BRIDGE}_right", True), ("routed", "all", BRIDGE, f"{BRIDGE}_right", True))),
    "H5": ("guided beats unguided on thin families and held-out combinations",
           (("bare", "thin+combo", "cold", "unguided", True),)),
}  # fmt: skip


def hypotheses(lab: Lab, regime: str) -> Iterator[str]:
    """H1-H5, fixed in advance: all parts must hold; p of a hypothesis is its largest part's, Holm over the five."""
    from realm_cli.method.scoring import holm

    found = {}
    for name, (_, parts) in HYPOTHESES.items():
        results = [part(lab, regime, *given[:4]) for given in parts]
        if all(result is not None for result in results):
            found[name] = [result for result in results if result is not None]
    strict = {name: [must for *_, must in parts] for name, (_, parts) in HYPOTHESES.items()}
    worst = [max(r[3] for r, must in zip(rows, strict[n], strict=True) if must) for n, rows in found.items()]
    adjusted = dict(zip(found, holm(worst), strict=True))
    yield "| hypothesis | differences in points [95 % CI] | p, Holm | verdict |"
    yield "| --- | --- | --- | --- |"
    for name, (text, _) in HYPOTHESES.items():
        if name not in found:
            yield f"| {name} {text} | not run | | |"
            continue
        rows = found[name]
        shown = "; ".join(f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]" for mean, low, high, _ in rows)
        enough = [low > 0 if must else high >= 0 for (_, low, high, _), must in zip(rows, strict[name], strict=True)]
        held = all(enough) and adjusted[name] < 0.05
        against = any(high < 0 for _, _, high, _ in rows)
        verdict = "held" if held else "refuted in part" if against else "not shown"
        yield f"| {name} {text} | {shown} | {adjusted[name]:.2g} | {verdict} |"


def part(
    lab: Lab, regime: str, mode: str, group: str, ours: str, theirs: str
) -> tuple[float, float, float, float] | None:
    """One comparison over the starts or the seeds that both arms have, or None where there are none."""
    mine, _, other = mode.partition("/")
    if at := shared_starts(lab, regime, ours, theirs):
        pairs = [[lab.by_start(regime, arm)[key] for key in at] for arm in (ours, theirs)]
        a, b = (lab.by_seed(runs, m, group) for runs, m in zip(pairs, (mine, other or mine), strict=True))
        return difference(a, b, paired=True)
    seeds = lab.seeds(regime, ours) & lab.seeds(regime, theirs)
    if not seeds or (ARMS[ours].after and ARMS[ours].after == ARMS[theirs].after):
        return None
    a = lab.many(regime, ours, mine, group, seeds)
    return difference(a, lab.many(regime, theirs, other or mine, group, seeds))


def tokens_to_reach(lab: Lab, regime: str, key: str) -> str | None:
    """Sampled tokens that ReaLM-R1 takes to vanilla GRPO's final dev accuracy, as a share of GRPO's, seed by seed."""
    realm = {run["seed"]: run for run in lab.runs[regime].get(main_arm(lab, regime), [])}
    ratios = []
    for grpo in lab.runs[regime].get("grpo", []):
        r1, (_, spent, last) = realm.get(grpo["seed"]), curve(grpo)[-1]
        goal = last.get(key, 0.0)
        if r1 is None or not goal:
            continue
        reached = next((tokens for _, tokens, dev in curve(r1) if dev.get(key, 0.0) >= goal), None)
        ratios.append("never" if reached is None else f"{reached / max(spent, 1):.2f}")
    return ", ".join(ratios) or None


def parts(lab: Lab) -> dict[str, str]:
    """Marked part of the page -> its text."""
    out = {}
    for regime, about in REGIMES.items():
        if regime not in lab.runs:
            continue
        lines = [f"Regime *{regime}*: {about}.", "", *table(lab, regime), "", *differences(lab, regime)]
        bridged = [name for name in ARMS if name.startswith(BRIDGE)]
        lines += starts(lab, regime, REALM, [ROUND, BRIDGE, *(n for n in ARMS if n not in (ROUND, *bridged))])
        lines += [*starts(lab, regime, BRIDGE, [ROUND, *bridged]), "", *hypotheses(lab, regime), ""]
        for key, label in (("dev_bare", "all"), ("dev_bare/unseen", "the unseen family")):
            ratio = tokens_to_reach(lab, regime, key)
            if ratio:
                lines.append(f"Share of GRPO's tokens that R1 needs for GRPO's last dev accuracy, {label}: {ratio}.")
        lines += placebo(lab, regime)
        out[regime] = "\n".join(lines).strip()
    return out


def placebo(lab: Lab, regime: str) -> Iterator[str]:
    """What shuffled verdict labels gain over no verdict reward: where labels carry nothing, nothing."""
    for prefix, label in (("r1", ""), (BRIDGE, ", with the bridge")):
        for text, group in (("all", "all"), ("the unseen family", "unseen")):
            gain = part(lab, regime, "bare", group, f"{prefix}_placebo", f"{prefix}_no_verdict")
            if gain is not None:
                about = f"shuffled labels minus no verdict reward{label}"
                yield f"The placebo's gain ({about}), bare, {text}: {signed(gain)}."


def plots(lab: Lab, folder: Path) -> Iterator[str]:
    """Dev accuracy of bare prompts against sampled tokens, mean over seeds."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "lab"
    from matplotlib import pyplot

    from realm_cli.method.eaai import lambda_at

    for regime, arms in lab.runs.items():
        figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), sharey=True)
        for axis, key in zip(axes, ("dev_bare", "dev_bare/unseen"), strict=True):
            for arm in [name for name in COLOURS if name in arms]:
                runs = [curve(run) for run in arms[arm] if run["curve"]]
                points = [
                    (fmean(p[1] for p in at) / 1e6, fmean(100 * p[2].get(key, 0.0) for p in at))
                    for at in zip(*runs, strict=False)
                ]
                axis.plot(*zip(*points, strict=True), label=ARMS[arm].about, color=COLOURS[arm])
            axis.set(xlabel="sampled tokens (millions)", title=key.replace("dev_bare", "bare, dev").replace("/", ", "))
        axes[0].set_ylabel("accuracy %")
        axes[1].legend(fontsize="x-small")
        yield saved(figure, folder / f"curves-{regime}.svg")
        figure, axis = pyplot.subplots(figsize=(6, 3.6))
        for arm in [name for name in COLOURS if name in arms and name not in ("always", "zero")]:
            runs = [run["curve"] for run in arms[arm] if run["curve"]]
            points = [(at[0][0], fmean(100 * p[2].get("dev_bare", 0.0) for p in at)) for at in zip(*runs, strict=False)]
            axis.plot(*zip(*points, strict=True), label=ARMS[arm].about, color=COLOURS[arm])
        axis.plot(
            [100 * lambda_at("cosine", t, 180) for t in range(301)], "k:", label="lambda of the cosine fade, x 100"
        )
        axis.set(xlabel="step of reinforcement learning", ylabel="bare, dev, %")
        axis.legend(fontsize="x-small")
        yield saved(figure, folder / f"fade-{regime}.svg")


def saved(figure: Any, path: Path) -> str:
    """The file's name, once the figure is in it."""
    from matplotlib import pyplot

    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path.name


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
