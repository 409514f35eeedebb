"""Accuracy on test problems whose derivation no training problem has, word for word.

No question stands in two splits, but parcels that differ in what their rules do not ask have one derivation, and a
model that has learned it by heart need not reckon. Training problems of the unseen family are in RL and `refine`,
without solutions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from copy import copy

from arms import ARMS, DATA_SEED, SIZES
from compare import REALM, ROUND, part, signed

from realm_cli.stages.report_lab import Lab, mean_interval
from realm_cli.stages.summary import interval

KNOWN = "known"  # the group of what is no new derivation
NEW = "covered+thin+combo+unseen"
COLUMNS = (("all", NEW), ("combo", "combo"), ("unseen", "unseen"))


def new_derivations(test: Mapping[str, str]) -> dict[str, str]:
    """Test problem -> its group, or KNOWN."""
    from realm_cli.domains import load_domain

    rows = load_domain("rulebook").generate(seed=DATA_SEED, **SIZES)
    trained = {row["gold_solution"] for row in rows if row["split"] == "train"}
    known = {row["id"] for row in rows if row["gold_solution"] in trained}
    return {i: KNOWN if i in known else group for i, group in test.items()}


def on_new(lab: Lab, regime: str, names: Sequence[str]) -> Iterator[str]:
    """Bare accuracies of these arms, and ReaLM-R1's gain over its start."""
    new = copy(lab)
    new.test = new_derivations(lab.test)
    sizes = Counter(new.test.values())
    counts = {"all": sum(n for group, n in sizes.items() if group != KNOWN), **sizes}
    head = " | ".join(f"{title} ({counts.get(title, 0)})" for title, _ in COLUMNS)
    yield ""
    yield f"| bare, derivations that no training problem has | seeds | {head} | ReaLM-R1 minus it, unseen |"
    yield "| --- | --- |" + " --- |" * (len(COLUMNS) + 1)
    for arm in names:
        cells = [interval(*mean_interval(new.many(regime, arm, "bare", group))) for _, group in COLUMNS]
        cells.append("-" if arm == REALM else signed(part(new, regime, "bare", "unseen", REALM, arm)))
        yield f"| {ARMS[arm].about} | {len(lab.seeds(regime, arm))} | " + " | ".join(cells) + " |"
    gains = [signed(part(new, regime, "bare", group, REALM, ROUND)) for _, group in COLUMNS]
    if gains[0] != "-":
        yield "| *ReaLM-R1 minus its start, points* | | " + " | ".join(gains) + " | |"
