"""reasoning-gym's `leg_counting` as a domain: a table of legs is the rule book, some animals are never taught.

    rows = problems(Sizes(), seed=0)
    steps, answer = solve(rows[0]["question"], table())
    steps, answer = solve(rows[0]["question"], beliefs("guesser", table(), seed=0), random.Random(0))

Questions and gold answers are reasoning-gym's own. Group `covered`: all animals of the problem are taught by guided
distillation; `unseen`: at least one is not (UNSEEN), so its legs can only come from the student's own knowledge or from
routes.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

UNSEEN = ("cow", "crab", "duck", "firefly", "flatworm", "giraffe", "praying mantis", "spider", "starfish", "wasp")
SOLVERS = ("field_guide", "guesser", "hasty", "old_notes")
WRONG_BELIEFS, SLIP = 0.35, 0.1  # share of animals whose legs a solver has wrong, chance of a slip in a sum


@dataclass(frozen=True)
class Sizes:
    """Problems per split; half of train and dev, 3 of 5 in test, hold an unseen animal."""

    train: int = 400
    dev: int = 40
    test: int = 250


def table() -> dict[str, int]:
    """animal -> legs, as reasoning-gym has it."""
    from reasoning_gym.arithmetic.leg_counting import ANIMALS

    return dict(ANIMALS)


def rules(legs: Mapping[str, int]) -> str:
    """The rule book that a teacher reads: one line a number of legs, taught animals only."""
    lines = []
    for count in sorted(set(legs.values())):
        names = sorted(name for name, n in legs.items() if n == count and name not in UNSEEN)
        if names:
            lines.append(f"- {count} legs: {', '.join(names)}")
    return "Legs of one animal:\n" + "\n".join(lines) + "\nThe total is the sum over animals of number times legs.\n"


def problems(sizes: Sizes, seed: int) -> list[dict[str, Any]]:
    """Problem rows, questions distinct over all splits."""
    import reasoning_gym

    wanted = [
        (split, group, n)
        for split, total, share in (("train", sizes.train, 0.5), ("dev", sizes.dev, 0.5), ("test", sizes.test, 0.6))
        for group, n in (("unseen", round(share * total)), ("covered", total - round(share * total)))
    ]
    drawn = reasoning_gym.create_dataset(
        "leg_counting",
        seed=100_000 * (seed + 1),
        size=12 * sum(n for _, _, n in wanted),
        min_animals=2,
        max_animals=3,
        min_instances=1,
        max_instances=6,
    )
    pools: dict[str, dict[str, str]] = {"covered": {}, "unseen": {}}
    for item in drawn:
        question = item["question"].strip()
        group = "unseen" if any(name in UNSEEN for _, name in parts(question)) else "covered"
        pools[group].setdefault(question, str(item["answer"]))
    rows: list[dict[str, Any]] = []
    stock = {group: iter(pool.items()) for group, pool in pools.items()}
    for split, group, n in wanted:
        for k in range(n):
            question, answer = next(stock[group])
            rows.append(
                {
                    "id": f"legs-{split}-{group}-{k:03d}",
                    "question": question,
                    "answer": answer,
                    "answer_type": "number",
                    "domain": "counting legs of animals",
                    "split": split,
                    "group": group,
                    "tags": ["distill"] if (split, group) == ("train", "covered") else [],
                }
            )
    return rows


def parts(question: str) -> list[tuple[int, str]]:
    """[(number, animal)] of a question.

    >>> parts("How many legs are there in total if you have 3 woodlouses, 1 praying mantis?")
    [(3, 'woodlouse'), (1, 'praying mantis')]
    """
    listed = question.rpartition("if you have ")[2].rstrip("?").split(", ")
    out = []
    for piece in listed:
        count, _, name = piece.partition(" ")
        out.append((int(count), name if int(count) == 1 else name.removesuffix("s")))
    return out


def beliefs(solver: str, legs: Mapping[str, int], seed: int) -> dict[str, int]:
    """What a solver believes of every animal: some of it wrong, always in the same way."""
    rng = random.Random(f"legs/{solver}/{seed}")
    counts = sorted(set(legs.values()))
    return {
        name: rng.choice([c for c in counts if c != n]) if rng.random() < WRONG_BELIEFS else n
        for name, n in sorted(legs.items())
    }


def solve(
    question: str, legs: Mapping[str, int], rng: random.Random | None = None, slip: float = SLIP
) -> tuple[list[str], str]:
    """(steps, answer) by a table of legs; with `rng`, one result may be off."""
    found = parts(question)
    slipped = rng.randrange(len(found)) if rng is not None and rng.random() < slip else None
    steps, results = [], []
    for k, (count, name) in enumerate(found):
        result = count * legs[name]
        if k == slipped and rng is not None:
            result += rng.choice([-2, -1, 1, 2]) if result > 2 else 1
        results.append(result)
        steps.append(f"One {name} has {legs[name]} legs: {count} * {legs[name]} = {result}.")
    total = results[0]
    for result in results[1:]:
        steps.append(f"{total} + {result} = {total + result}.")
        total += result
    return steps, str(total)


def check(rows: Sequence[Mapping[str, Any]], legs: Mapping[str, int]) -> int:
    """How many gold answers the table's own solution misses (0: question and table are read rightly)."""
    return sum(solve(str(row["question"]), legs)[1] != row["answer"] for row in rows)
