"""Derivations: accuracy on test problems whose derivation no training problem has, and what wrong routes hold of one.

No question stands in two splits, but parcels that differ in what their rules do not ask have one derivation, and a
model that has learned it by heart need not reckon. Training problems of the unseen family are in RL and `refine`,
without solutions.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from arms import ARMS, DATA_SEED, SIZES
from compare import REALM, ROUND, part, signed
from run import make_files, read

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


def shared_steps(regime: str, seed: int = 0) -> Iterator[str]:
    """What the external routes of the unseen family's training problems hold of its derivations, step by step."""
    with TemporaryDirectory() as folder:
        make_files(Path(folder), regime, seed, SIZES)
        problems = [row for row in read(Path(folder) / "problems.jsonl") if row["split"] == "train"]
        texts = defaultdict(list)
        for row in read(Path(folder) / "external.jsonl"):
            texts[row["problem_id"]].append(row["text"])
    shares, whole = [], []
    for problem in (row for row in problems if row["group"] == "unseen"):
        routes = [operations(text) for text in texts[problem["id"]]]
        counts = Counter(step for route in routes for step in route)
        shares += [counts[step] / len(routes) for step in operations(problem["gold_solution"])]
        agreed = {step for step, n in counts.items() if n > len(routes) / 2}
        whole.append(agreed == operations(problem["gold_solution"]))
    yield ""
    yield (
        f"External routes of the unseen family's training problems, seed {seed}: a step of the derivation stands in "
        f"{100 * fmean(shares):.0f} % of the routes; the steps that more than half of them have are the whole "
        f"derivation for {100 * fmean(whole):.0f} %."
    )


def operations(text: str) -> set[str]:
    """The steps of a solution without their results: `zone + 14`."""
    from realm_cli.method.steps import parse_route

    return {step.rpartition(" = ")[0] or step for step in parse_route(text)[0]}
