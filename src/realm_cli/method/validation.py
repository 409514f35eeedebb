"""Does the first-error finder find errors? Known ones are planted in right routes (method.md section 5.7).

`corrupt(route, step, ...)` shifts the result of one step and every later result, wherever they stand from there on, as
a slip that is carried on does. The changed copy joins the negatives, the original is left out; the finder should name
`step`. Usage: `planted(routes, problem, rng)` -> (planted step, found step or None); None: nothing can be planted.

Deviation 1: results are shifted by one amount, so later products are not worked out anew; their numbers still differ.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from fractions import Fraction

from realm_cli.method.answers import as_fraction, numbers_in
from realm_cli.method.mrpv import MIN_POSITIVES, score_routes
from realm_cli.method.steps import step_facts
from realm_cli.prompts import options_text
from realm_cli.records import Problem, Route

SHIFTS = (-10, -3, -2, -1, 1, 2, 3, 10)
_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]{0,99}(?:\.\d{1,99})?(?![\w.]*\d)")  # longer ones have no value anyway


def results(route: Route, question: str, extractor: str = "auto", options: str = "") -> list[set[Fraction]]:
    """The numbers that each step states as new results."""
    found = []
    for facts in step_facts(route.steps, question, extractor, options):
        values = (as_fraction(fact.rpartition("=")[2]) for fact in facts if "=" in fact and not fact.startswith("op:"))
        found.append({value for value in values if value is not None})
    return found


def corrupt(
    route: Route, step: int, shift: int, question: str, extractor: str = "auto", options: str = ""
) -> Route | None:
    """A copy that goes wrong at `step` (1-based): its results and all later ones are off by `shift`.

    None where that step states no number as a result. The copy counts as wrong; its answer is shifted as well.
    """
    own = results(route, question, extractor, options)
    if not 1 <= step <= len(route.steps) or not own[step - 1]:
        return None
    moved = set().union(*own[step - 1 :]) - set().union(*own[: step - 1])

    def change(match: re.Match[str]) -> str:
        value = as_fraction(numbers_in(match.group())[0]) if numbers_in(match.group()) else None
        return str(value + shift) if value is not None and value in moved else match.group()

    steps = [text if k < step else _NUMBER.sub(change, text) for k, text in enumerate(route.steps, 1)]
    answer = _NUMBER.sub(change, route.final_answer or "")
    if steps == route.steps:
        return None
    return route.model_copy(
        update={"id": f"{route.id}#planted", "steps": steps, "final_answer": answer, "correct": False}
    )


def planted(
    routes: Sequence[Route], problem: Problem, rng: random.Random, extractor: str = "auto"
) -> tuple[int, int | None] | None:
    """Plant one error in one positive and look for it: (step, what was found). None where too little is there.

    The original is left out, and two positives at least must be left, as the finder asks for. Source: section 5.7.
    """
    right = [route for route in routes if route.correct and not route.truncated and route.final_answer and route.steps]
    if len(right) <= MIN_POSITIVES:
        return None
    original, options = rng.choice(right), options_text(problem)
    steps = [k for k, values in enumerate(results(original, problem.question, extractor, options), 1) if values]
    if not steps:
        return None
    step = rng.choice(steps)
    copy = corrupt(original, step, rng.choice(SHIFTS), problem.question, extractor, options)
    if copy is None:
        return None
    others = [route for route in routes if route.id != original.id]
    scored = score_routes([*others, copy], problem, extractor=extractor)
    return step, scored[-1].first_error
