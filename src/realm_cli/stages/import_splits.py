"""Splits of imported rows: as a column names them, or drawn by a hash of the question, or of a column's value.

Drawn so, a question asked twice is never on both sides, and a longer table keeps the splits of its old rows.
Usage: `split_of("What is 1 + 1?", dev=0.1, test=0.2, seed=0)` -> "train"
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

from realm_cli.method.questions import folded
from realm_cli.records import Problem
from realm_cli.stages.json_tables import SPLITS

FEW = 20  # training rows below which none are taken away for dev
MOST_SHOWN = 3


def split_of(text: str, dev: float, test: float, seed: int) -> str:
    """A split by the text's hash. Signs do not count here, so that `1 + 1` and `1 - 1` are on one side."""
    at = _draw(text, seed)
    return "test" if at < test else "dev" if at < test + dev else "train"


def _draw(text: str, seed: int) -> float:
    text = folded(text)
    key = re.sub(r"\W+", " ", text).strip() or text
    return int.from_bytes(hashlib.sha256(f"{seed}\0{key}".encode()).digest()[:8], "big") / 2**64


def splits_of_values(values: Sequence[str], dev: float, test: float, seed: int) -> dict[str, str]:
    """A split for each distinct value, all wanted splits used where there are three values or more."""
    order = sorted(dict.fromkeys(values), key=lambda value: _draw(value, seed))
    found = {value: split_of(value, dev, test, seed) for value in order}
    if len(order) >= 3:
        for split, share, at in (("test", test, 0), ("dev", dev, 1)):
            if share and split not in found.values():
                found[order[at]] = split
        if "train" not in found.values():
            found[order[-1]] = "train"
    return found


def dev_from_train(
    problems: Sequence[Problem], homes: Mapping[str, str], dev: float, seed: int
) -> tuple[list[Problem], str]:
    """Dev problems out of the training ones, as most published tables have none; and a note. A handful is left alone.

    homes: problem id -> the text whose problems stay together.
    """
    train = [problem for problem in problems if problem.split == "train"]
    if len(train) < FEW:
        return list(problems), ""
    moved = {p.id for p in train if split_of(homes[p.id], dev=dev, test=0.0, seed=seed) == "dev"}
    if len({homes[p.id] for p in train} - {homes[name] for name in moved}) == 0:
        return list(problems), ""
    taken = [p.model_copy(update={"split": "dev"}) if p.id in moved else p for p in problems]
    return taken, f"no dev rows: {dev:.0%} of train taken, seed {seed} (--dev 0: none)"


def torn(problems: Sequence[Problem], homes: Mapping[str, str]) -> list[str]:
    """Values whose problems stand in more than one split."""
    found: dict[str, set[str]] = {}
    for problem in problems:
        found.setdefault(homes[problem.id], set()).add(problem.split)
    return [value for value, splits in found.items() if len(splits) > 1]


def split_columns(rows: Sequence[tuple[str, Mapping[str, object]]]) -> list[str]:
    """Columns in which every cell names a split, and not the same one."""
    values: dict[str, set[str]] = {}
    for _, cells in rows:
        for name, value in cells.items():
            values.setdefault(name, set()).add(value.strip().lower() if isinstance(value, str) else "")
    return [name for name, found in values.items() if len(found) > 1 and found <= set(SPLITS)]
