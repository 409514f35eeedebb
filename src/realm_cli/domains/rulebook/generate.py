"""Problems of the rulebook domain: every parcel of the tariff with 3-6 steps, dealt out to the splits.

Groups: `covered` household (densely covered by distillation), `thin` office (a few distillation examples per product),
`unseen` garden (never in distillation; no noisy solver is right), `combo` household and office parcels with a
combination of extras that train never shows, though every pair of its parts is there.
Tag `distill`: the problems a teacher may use (all covered ones, `THIN_EXAMPLES` per thin product, no unseen one).

Usage: `rows = generate(600, 200, 800, seed=0)`; each row fits `records.Problem`.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

from realm_cli.domains.rulebook.tariff import MAX_KG, PRODUCTS, ZONES, Parcel, charge, family_of, rates_for
from realm_cli.domains.rulebook.wording import question_text, solution_text
from realm_cli.errors import ConfigError

GROUPS = ("covered", "thin", "unseen", "combo")
DEFAULT_MIX: Mapping[str, Mapping[str, float]] = {
    "train": {"covered": 0.5, "thin": 0.2, "unseen": 0.3},
    "dev": {"covered": 0.25, "thin": 0.25, "unseen": 0.3, "combo": 0.2},
    "test": {"covered": 0.25, "thin": 0.25, "unseen": 0.3, "combo": 0.2},
}
THIN_EXAMPLES = 15
MIN_STEPS, MAX_STEPS = 3, 6
_GROUP_OF_FAMILY = {"household": "covered", "office": "thin", "garden": "unseen"}


def held_out_combo(parcel: Parcel) -> bool:
    """Combinations kept for dev and test; their parts interact through thresholds on the running total."""
    return (parcel.zone == 3 and parcel.express and parcel.insured) or (
        parcel.zone == 4 and parcel.insured and parcel.member
    )


def group_of(parcel: Parcel) -> str:
    """The stratum a parcel belongs to."""
    group = _GROUP_OF_FAMILY[family_of(parcel.product)]
    return "combo" if group != "unseen" and held_out_combo(parcel) else group


def all_parcels() -> list[Parcel]:
    """Every parcel whose solution has 3-6 steps, in a fixed order."""
    flags = itertools.product((False, True), repeat=4)
    grid = itertools.product(PRODUCTS, range(1, MAX_KG + 1), range(1, ZONES + 1), flags)
    parcels = [Parcel(product, kg, zone, *extras) for product, kg, zone, extras in grid]
    return [p for p in parcels if MIN_STEPS <= len(charge(p, rates_for(p.product))) <= MAX_STEPS]


def generate(
    n_train: int, n_dev: int, n_test: int, seed: int, mix: Mapping[str, Mapping[str, float]] = DEFAULT_MIX
) -> list[dict[str, Any]]:
    """Problem rows, no question twice. `mix` = split -> group -> share. ConfigError if a group has too few parcels."""
    rng = random.Random(seed)
    pools: dict[str, list[Parcel]] = {group: [] for group in GROUPS}
    for parcel in all_parcels():
        pools[group_of(parcel)].append(parcel)
    for pool in pools.values():
        rng.shuffle(pool)
    rows: list[dict[str, Any]] = []
    thin_used: Counter[str] = Counter()
    for split, n in (("train", n_train), ("dev", n_dev), ("test", n_test)):
        parcels = []
        for group, count in _counts(n, mix[split]).items():
            if count > len(pools[group]):
                raise ConfigError(
                    f"rulebook: {split} wants {count} more {group} problems, {len(pools[group])} are left; "
                    "lower data.n_train, data.n_dev or data.n_test"
                )
            parcels += [pools[group].pop() for _ in range(count)]
        rng.shuffle(parcels)
        rows += [_row(parcel, split, k, thin_used) for k, parcel in enumerate(parcels)]
    return rows


def _counts(n: int, shares: Mapping[str, float]) -> dict[str, int]:
    """n split by shares; what rounding leaves over goes to the first group."""
    unknown = set(shares) - set(GROUPS)
    if unknown or not shares:
        raise ConfigError(f"rulebook: unknown groups {sorted(unknown)} in mix; known: {', '.join(GROUPS)}")
    whole = sum(shares.values())
    counts = {group: int(n * share / whole) for group, share in shares.items()}
    counts[next(iter(counts))] += n - sum(counts.values())
    return counts


def _row(parcel: Parcel, split: str, number: int, thin_used: Counter[str]) -> dict[str, Any]:
    steps = charge(parcel, rates_for(parcel.product))
    group = group_of(parcel)
    tags = []
    if split == "train" and group == "thin" and thin_used[parcel.product] < THIN_EXAMPLES:
        thin_used[parcel.product] += 1
        tags = ["distill"]
    elif split == "train" and group == "covered":
        tags = ["distill"]
    return {
        "id": f"rulebook-{split}-{number:05d}",
        "schema_version": 1,
        "domain": "rulebook",
        "split": split,
        "question": question_text(parcel),
        "answer": str(steps[-1].total),
        "answer_type": "number",
        "choices": None,
        "rule_ids": [step.rule for step in steps],
        "gold_solution": solution_text(steps),
        "group": group,
        "tags": tags,
    }
