"""Comparisons of the lab's runs: over the starts that two arms share, or over seeds; H1-H5; tokens; the placebo."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

from arms import ARMS

from realm_cli.stages.report_lab import N_BOOT, Lab, curve

REALM, BRIDGE, ROUND = "realm_r1", "r1_bridge", "rft_both"  # ROUND: what both of them go on from


def difference(
    ours: Sequence[dict[str, float]], theirs: Sequence[dict[str, float]], *, paired: bool = False
) -> tuple[float, float, float, float]:
    """(mean, low, high, p) of ours - theirs in points; one mapping a run on either side, of one start where paired."""
    from realm_cli.method.scoring import paired_difference, seeded_difference

    mean, low, high = (100 * x for x in seeded_difference(ours, theirs, 0, N_BOOT, paired=paired))
    a, b = ({i: [run[i] for run in runs] for i in runs[0]} for runs in (ours, theirs))
    return mean, low, high, paired_difference(a, b, 0, 100).mcnemar_p


def shared_starts(lab: Lab, regime: str, one: str, other: str) -> list[tuple[int, int]]:
    """The starts from which both arms have a run: one goes on from the other, or both from the same arm."""
    a, b = ARMS[one].after, ARMS[other].after
    if not (one == b or other == a or (a and a == b)):
        return []
    return sorted(lab.by_start(regime, one).keys() & lab.by_start(regime, other).keys())


def kept_on_dev(run: dict[str, Any]) -> float:
    """Bare dev accuracy of the adapter that RL kept: the best one, its start included."""
    return max(float(dev["dev_bare"]) for _, _, dev in run["curve"])


def kept_start(run: dict[str, Any]) -> bool:
    """Whether no later adapter was as good on dev as the start, which was kept: then RL changed nothing."""
    first, *later = (float(dev["dev_bare"]) for _, _, dev in run["curve"])
    return bool(later) and max(later) < first


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


def signed(found: tuple[float, float, float, float] | None) -> str:
    """`+1.5 [-0.2, +2.9]`."""
    return "-" if found is None else "{} [{}, {}]".format(*map(points, found[:3]))


def points(value: float) -> str:
    """`+1.5`; no `-0.0`."""
    return f"{round(value, 1) + 0.0:+.1f}"


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
        shown = "; ".join(map(signed, rows))
        enough = [low > 0 if must else high >= 0 for (_, low, high, _), must in zip(rows, strict[name], strict=True)]
        held = all(enough) and adjusted[name] < 0.05
        against = any(high < 0 for _, _, high, _ in rows)
        verdict = "held" if held else "refuted in part" if against else "not shown"
        yield f"| {name} {text} | {shown} | {adjusted[name]:.2g} | {verdict} |"


def tokens_to_reach(lab: Lab, regime: str, key: str) -> str | None:
    """Sampled tokens that ReaLM-R1 takes to vanilla GRPO's final dev accuracy, as a share of GRPO's, seed by seed."""
    realm = {run["seed"]: run for run in lab.runs[regime].get(REALM, [])}
    ratios = []
    for grpo in lab.runs[regime].get("grpo", []):
        r1, (_, spent, last) = realm.get(grpo["seed"]), curve(grpo)[-1]
        goal = last.get(key, 0.0)
        if r1 is None or not goal:
            continue
        reached = next((tokens for _, tokens, dev in curve(r1) if dev.get(key, 0.0) >= goal), None)
        ratios.append("never" if reached is None else f"{reached / max(spent, 1):.2f}")
    return ", ".join(ratios) or None


def without_unseen(lab: Lab, regime: str) -> Iterator[str]:
    """H1's second half where the CoT-Synthesizer was taught: the unseen family has no solutions to learn from."""
    found = part(lab, regime, "routed", "covered+thin+combo", REALM, "synth")
    if found is not None:
        yield f"H1 without the unseen family, ReaLM-R1 minus the CoT-Synthesizer, routed: {signed(found)}."


def placebo(lab: Lab, regime: str) -> Iterator[str]:
    """What shuffled verdict labels gain over no verdict reward: where labels carry nothing, nothing."""
    for prefix, label in (("r1", ""), (BRIDGE, ", with the bridge")):
        for text, group in (("all", "all"), ("the unseen family", "unseen")):
            gain = part(lab, regime, "bare", group, f"{prefix}_placebo", f"{prefix}_no_verdict")
            if gain is not None:
                about = f"shuffled labels minus no verdict reward{label}"
                yield f"The placebo's gain ({about}), bare, {text}: {signed(gain)}."


# What the pilot found, as differences: (its point, what, regime, mode, group, better or later arm, the other).
PILOT = (
    ("1", "fading routes, no bridge, minus vanilla GRPO", "hard", "bare", "all", "fade", "grpo"),
    ("1", "the same", "hard", "bare", "unseen", "fade", "grpo"),
    ("2", "fade and bridge minus vanilla GRPO", "hard", "bare", "unseen", "r1", "grpo"),
    ("2", "bridge, routes to the end, minus vanilla GRPO", "hard", "bare", "unseen", "no_fade", "grpo"),
    ("2", "routed RFT minus bridge, routes to the end", "hard", "bare", "unseen", "rft_routed", "no_fade"),
    ("3", "SFT on external positives minus the cold start", "open", "bare", "all", "sft_pos", "cold"),
    ("3", "ReaLM-R1 minus SFT on external positives", "open", "bare", "all", REALM, "sft_pos"),
    ("4", "both signs minus right routes only, with the bridge", "hard", "routed", "all", BRIDGE, f"{BRIDGE}_right"),
    ("4", "one route a prompt minus both signs, bridge", "hard", "routed", "all", f"{BRIDGE}_one_route", BRIDGE),
    ("4", "no verdict reward minus with it, with the bridge", "hard", "bare", "all", f"{BRIDGE}_no_verdict", BRIDGE),
    ("5", "routes to the end minus cosine fade", "hard", "bare", "all", "r1_none", REALM),
    ("5", "asymptotic minus cosine fade", "hard", "bare", "all", "r1_asymptotic", REALM),
    ("5", "fade in steps minus cosine fade", "hard", "bare", "all", "r1_step", REALM),
    ("5", "adaptive minus cosine fade", "hard", "bare", "all", "r1_adaptive", REALM),
    ("7", "SFT on all external routes minus the cold start", "hard", "routed", "all", "sft_all", "cold"),
    ("7", "SFT on external positives minus the cold start", "hard", "routed", "all", "sft_pos", "cold"),
    ("8", "ReaLM-R1 minus SFT + vanilla GRPO, equal tokens", "hard", "bare", "all", REALM, "grpo_more"),
    ("8", "ReaLM-R1 minus routed RFT, equal tokens", "hard", "bare", "all", REALM, "rft_more"),
)  # fmt: skip


def pilot(lab: Lab) -> Iterator[str]:
    """The differences by which the pilot's points are judged."""
    yield "| point | difference | regime, mode, problems | over | points [95 % CI] |"
    yield "| --- | --- | --- | --- | --- |"
    for point, about, regime, mode, group, ours, theirs in PILOT:
        found = part(lab, regime, mode, group, ours, theirs)
        if found is not None:
            where = f"{regime}, {mode}, {group} | {over(lab, regime, ours, theirs)}"
            yield f"| {point} | {about} | {where} | {signed(found)} |"
    without = [
        {i: value for i, value in lab.values(run, "routed", "all").items() if not lab.values(run, "any", "all")[i]}
        for run in lab.runs["hard"].get(REALM, [])
    ]
    if without:
        share = fmean(fmean(run.values()) for run in without)
        about = "ReaLM-R1, no shown route right: share answered right"
        yield f"| 6 | {about} | hard, routed | {counted(len(without), 'run')} | {100 * share:.1f} |"


def over(lab: Lab, regime: str, ours: str, theirs: str) -> str:
    """`3 starts` or `5 seeds`: what a comparison is over."""
    if at := shared_starts(lab, regime, ours, theirs):
        return counted(len(at), "start")
    return counted(len(lab.seeds(regime, ours) & lab.seeds(regime, theirs)), "seed")


def counted(n: int, what: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{n} {what}{'s' * (n != 1)}"
